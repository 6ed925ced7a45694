"""The napari plugin's dock widgets. The only part of the package that knows Qt."""
