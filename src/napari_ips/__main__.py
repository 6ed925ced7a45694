"""``python -m napari_ips``: the command line, for where no script is installed."""

from napari_ips.cli import main

if __name__ == "__main__":
    main()
