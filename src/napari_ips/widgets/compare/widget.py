"""The dock "Compare fusions": fused images beside projections and a classical method."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import napari.viewer
from napari.layers import Image
from napari.qt.threading import GeneratorWorker, create_worker
from napari.utils.events import Event
from napari.utils.notifications import show_error
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
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
from napari_ips.widgets.results import facts, role_of
from napari_ips.widgets.stacks import z_axis_of
from napari_ips.widgets.work import finish, told

_USUAL = ("max", "window")
_TIPS = {
    "max": "The brightest value of every pixel over the slices",
    "mean": "The mean of every pixel over the slices",
    "slice": "The one slice with the most detail (mean square of its Laplacian)",
    "window": "Every pixel from the slice with the most detail around it (Laplacian)",
}


class CompareWidget(QWidget):
    """Makes images to compare with, and shows them beside the fused one.

    No figure says which is better: without the true image every measure of sharpness
    takes noise for detail.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._worker: GeneratorWorker[float, None, Any] | None = None
        self._busy_with: Subject | None = None
        self._build()
        events = viewer.layers.events
        self._connections: list[tuple[Any, Callable[..., None]]] = [
            (events.inserted, self._on_inserted),
            (events.removed, self._on_removed),
            (events.renamed, self._on_renamed),
        ]
        for emitter, slot in self._connections:
            emitter.connect(slot)
        self._list_images()

    def event(self, event: QEvent | None) -> bool:
        """Let go of the viewer when the dock that holds the widget is closed."""
        left = event is not None and event.type() == QEvent.Type.ParentChange
        if left and self.parent() is None:
            self._close_down()
        return bool(super().event(event))

    def _build(self) -> None:
        self.image = QComboBox()
        self.image.setToolTip("A fused image or a z-stack")
        self.image.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
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
        self._show_idle()

    # What can be chosen

    def _list_images(self, chosen: Image | None = None) -> None:
        images = [layer for layer in self._viewer.layers if _can_be_compared(layer)]
        if chosen is None:
            chosen = self.image.currentData()
        if chosen not in images:
            fused = [image for image in images if role_of(image) == "fused"]
            chosen = (fused or images or [None])[-1]
        self.image.blockSignals(True)
        self.image.clear()
        for image in images:
            self.image.addItem(image.name, image)
        self.image.setCurrentIndex(images.index(chosen) if images else -1)
        self.image.blockSignals(False)
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
        self.button.setEnabled(self._worker is not None or enough)

    # Flattening

    def _on_button(self) -> None:
        if self._worker is not None:
            self._cancel()
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

        def returned(result: dict[Any, Any] | str) -> None:
            if self._worker is worker:
                finish(result, add)

        def ended() -> None:
            if self._worker is worker:
                self._show_idle()

        worker = create_worker(
            flattened, task, missing, _progress={"desc": "Flattening to compare"}
        )
        self._worker, self._busy_with = worker, subject
        worker.yielded.connect(self._on_progress)
        worker.returned.connect(returned)
        worker.finished.connect(ended)
        self._show_busy()
        worker.start()

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

    def _cancel(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.quit()
        self._show_idle()

    def _on_progress(self, fraction: float) -> None:
        self.progress.setValue(round(100 * fraction))

    def _show_busy(self) -> None:
        self.button.setText("&Cancel")
        self.button.setToolTip("Stop; nothing is added")
        self.progress.setValue(0)
        self.progress.show()

    def _show_idle(self) -> None:
        self._worker = self._busy_with = None
        self.button.setText("&Compare")
        self.button.setToolTip("Flatten the stack and show what is ticked")
        self.progress.hide()
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
            self._cancel()
        self._list_images()

    def _close_down(self) -> None:
        for emitter, slot in self._connections:
            emitter.disconnect(slot)
        self._connections.clear()
        if self._worker is not None:
            self._worker.quit()
            self._worker = None
        self.panel.close_down()


def _can_be_compared(layer: Any) -> bool:
    if not isinstance(layer, Image):
        return False
    if facts(layer) is not None:
        return role_of(layer) == "fused"
    return layer.ndim > 2 and z_axis_of(layer) is not None


def _layer_choice(layer: Image, text: str, tip: str, ticked: bool) -> Choice:
    return Choice(str(layer.unique_id), layer, text, tip, ticked)
