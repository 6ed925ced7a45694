"""The dock "Compare fusions": fused images beside projections and a classical method."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import napari.viewer
from napari.layers import Image
from napari.qt.threading import create_worker
from napari.utils.events import Event
from napari.utils.notifications import show_error
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_ips.errors import IPSError
from napari_ips.widgets.compare.choices import Choice, Choices
from napari_ips.widgets.compare.comparisons import (
    TITLES,
    Subject,
    Task,
    flattened,
    layer_options,
    made_before,
    subject_of,
    task_for,
)
from napari_ips.widgets.compare.panel import ViewPanel
from napari_ips.widgets.dock import Dock, LayerBox
from napari_ips.widgets.results import facts, role_of
from napari_ips.widgets.stacks import z_axis_of
from napari_ips.widgets.work import Workers, told

_USUAL = ("max", "window")
_TIPS = {
    "max": "The brightest value of every pixel over the slices",
    "mean": "The mean of every pixel over the slices",
    "slice": "The one slice with the most detail (mean square of its Laplacian)",
    "window": "Every pixel from the slice with the most detail around it (Laplacian)",
}


class CompareWidget(Dock):
    """Makes images to compare with, and shows them beside the fused one.

    No figure says which is better: without the true image every measure of sharpness
    takes noise for detail.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._workers = Workers(self, self._show_work)
        self._busy_with: Subject | None = None
        self._build()
        events = viewer.layers.events
        self.listen(
            (events.inserted, self._on_inserted),
            (events.removed, self._on_removed),
            (events.renamed, self._on_renamed),
        )
        self._list_images()

    def _build(self) -> None:
        self.image = LayerBox("A fused image or a z-stack")
        self.image.currentIndexChanged.connect(self._list_choices)
        self.choices = Choices(self._check)
        self.all_planes = QCheckBox("All &time points and channels")
        self.all_planes.setToolTip("Flatten all of them, not only what is shown now")
        self.problem = QLabel()
        self.problem.setWordWrap(True)
        self.button = QPushButton()
        self.button.clicked.connect(self._on_button)
        self.progress = QProgressBar()
        self.progress.setToolTip("How much of the flattening is done")
        self.panel = ViewPanel(self._viewer)
        form = QFormLayout()
        form.addRow("I&mage", self.image)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        for widget in (self.choices, self.all_planes, self.problem, self.button):
            layout.addWidget(widget)
        layout.addWidget(self.progress)
        layout.addWidget(self.panel)
        layout.addStretch()
        self._show_work()

    # What can be chosen

    def _list_images(self, chosen: Image | None = None) -> None:
        images = [layer for layer in self._viewer.layers if _can_be_compared(layer)]
        fused = [image for image in images if role_of(image) == "fused"]
        self.image.fill(images, chosen, self.image.currentData(), *fused[-1:], *images[-1:])
        self._list_choices()

    def _list_choices(self) -> None:
        image, subject = self.image.currentData(), self._subject()
        several = isinstance(subject, Subject) and subject.planes() > 1
        self.all_planes.setVisible(several)
        choices = []
        if image is not None and role_of(image) == "fused":
            choices.append(_layer_choice(image, image.name, "The fused image", True))
        if isinstance(subject, Subject):
            choices += (
                Choice(method, method, title, _TIPS[method], method in _USUAL)
                for method, title in TITLES.items()
            )
            source = subject.source
            text = f"{source.name} (slice shown)"
            choices.append(_layer_choice(source, text, "The z-stack itself", False))
        for other in self._others(image):
            choices.append(_layer_choice(other, other.name, "Another fused image", False))
        self.choices.fill(choices)
        fields = [self.image, *self.choices.boxes(), self.all_planes, self.button]
        for field, following in pairwise(fields):
            QWidget.setTabOrder(field, following)
        self._check()

    def _others(self, image: Image | None) -> list[Image]:
        """Return the other fused images of the same stack."""
        if image is None:
            return []
        source = (facts(image) or {"source": str(image.unique_id)}).get("source")
        return [
            layer
            for layer in self._viewer.layers
            if role_of(layer) == "fused"
            and layer != image
            and (facts(layer) or {}).get("source") == source
        ]

    def _subject(self) -> Subject | str:
        """Return what can be flattened, or why nothing can."""
        image = self.image.currentData()
        if image is None:
            return "Open a z-stack or fuse one first."
        return told(subject_of)(self._viewer.layers, image)

    def _check(self) -> None:
        subject = self._subject()
        problem = "" if isinstance(subject, Subject) else subject
        enough = len(self.choices.ticked()) > 1
        if not problem and not enough:
            problem = "Tick at least two images."
        self.problem.setText(problem)
        self.problem.setVisible(bool(problem))
        self.button.setEnabled("flatten" in self._workers or enough)

    # Flattening

    def _on_button(self) -> None:
        if "flatten" in self._workers:
            self._workers.stop("flatten")
            return
        ticked = self.choices.ticked()
        layers = [value for value in ticked if not isinstance(value, str)]
        subject = self._subject()
        methods = [value for value in ticked if isinstance(value, str)]
        if not methods or not isinstance(subject, Subject):
            self.panel.compare(layers)
            return
        place = None
        if not self.all_planes.isVisibleTo(self) or not self.all_planes.isChecked():
            place = subject.place(self._viewer.dims.point)
        try:
            task = task_for(subject, place)
        except IPSError as error:
            show_error(str(error))
            return
        self._flatten(subject, task, methods, layers)

    def _flatten(
        self, subject: Subject, task: Task, methods: list[Any], layers: list[Image]
    ) -> None:
        known = {m: made_before(self._viewer.layers, subject, task, m) for m in methods}
        layers += [layer for layer in known.values() if layer is not None]
        missing = [method for method, layer in known.items() if layer is None]
        if not missing:
            self.panel.compare(layers)
            return

        def add(images: dict[Any, Any]) -> None:
            self.panel.compare(layers + self._add(images, subject, task))

        worker = create_worker(
            flattened, task, missing, _progress={"desc": "Flattening to compare"}
        )
        worker.yielded.connect(self._on_progress)
        self.progress.setValue(0)
        self._workers.start("flatten", worker, add)
        self._busy_with = subject

    def _add(self, images: dict[Any, Any], subject: Subject, task: Task) -> list[Image]:
        """Add layers that are seen in comparisons only, unless the user shows them."""
        layers = self._viewer.layers
        active = layers.selection.active
        added = []
        for method, image in images.items():
            options = layer_options(subject, task, method)
            added.append(self._viewer.add_image(image, visible=False, **options))
        layers.selection.active = active
        return added

    def _on_progress(self, fraction: float) -> None:
        self.progress.setValue(round(100 * fraction))

    def _show_work(self) -> None:
        busy = "flatten" in self._workers
        if busy:
            self.button.setText("&Cancel")
            self.button.setToolTip("Stop; nothing is added")
        else:
            self.button.setText("&Compare")
            self.button.setToolTip("Flatten the stack and show what is ticked")
            self._busy_with = None
        self.progress.setVisible(busy)
        self._check()

    # The viewer

    def _on_inserted(self, event: Event) -> None:
        """List the new layer; a new fused image is what will be compared."""
        fused = role_of(event.value) == "fused"
        self._list_images(event.value if fused else None)

    def _on_renamed(self, event: Event) -> None:
        self._list_images()

    def _on_removed(self, event: Event) -> None:
        if self._busy_with is not None and event.value in (
            self._busy_with.source,
            self._busy_with.shown,
        ):
            self._workers.stop("flatten")
        self._list_images()

    def close_down(self) -> None:
        """Let go of the viewer, end the work, and show all layers as before."""
        super().close_down()
        self._workers.stop("flatten")
        self.panel.close_down()


def _can_be_compared(layer: Any) -> bool:
    if not isinstance(layer, Image):
        return False
    if facts(layer) is not None:
        return role_of(layer) == "fused"
    return layer.ndim > 2 and z_axis_of(layer) is not None


def _layer_choice(layer: Image, text: str, tip: str, ticked: bool) -> Choice:
    return Choice(str(layer.unique_id), layer, text, tip, ticked)
