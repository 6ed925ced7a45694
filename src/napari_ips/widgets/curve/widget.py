"""The dock "Focus curve": how sharp each slice is where the user clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error
from napari.utils.theme import get_theme
from qtpy.QtGui import QHideEvent, QShowEvent

from napari_ips.config import FuseConfig
from napari_ips.errors import IPSError
from napari_ips.events import Progress
from napari_ips.widgets.curve.finder import Answer, CurveFinder, Question, Stack
from napari_ips.widgets.curve.panel import HOW, CurvePanel
from napari_ips.widgets.places import (
    Area,
    Clicks,
    Marker,
    area_in_view,
    area_of_shapes,
    around,
    pixel_at,
    show_slice,
    slice_in_view,
    step_in_view,
)
from napari_ips.widgets.results import decider_of, facts
from napari_ips.widgets.stacks import axes_of, level_zero, plane_of, stack_of, z_axis_of

if TYPE_CHECKING:
    import napari

_NO_STACK = "Select the layer of a z-stack, or a result fused from one."
_OTHER_STACK = "The stack of this result is gone or has other axes now; fuse it again."
_BUSY = " …"


class FocusCurve(CurvePanel):
    """Plots the evidence by which a stack is fused, at a pixel or in an area.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._source: tuple[Any, int] | None = None
        self._pixel: tuple[int, int] | None = None
        self._answer: Answer | None = None
        self._marker = Marker(napari_viewer)
        self._clicks = Clicks(napari_viewer, self._on_click)
        self._finder = CurveFinder(self)
        self._finder.answered.connect(self._on_answer)
        self._finder.failed.connect(self._on_failure)
        self._finder.progressed.connect(self._on_progress)
        self._finder.busy_changed.connect(self._on_busy)
        self.pick.toggled.connect(self._clicks.listen)
        self.radius.valueChanged.connect(self._ask_around)
        self.of_view.clicked.connect(self._ask_view)
        self.of_shape.clicked.connect(self._ask_shape)
        self.cancel.clicked.connect(self._finder.cancel)
        self.plot.slice_chosen.connect(self._show_slice)
        self._follow()

    def showEvent(self, event: QShowEvent) -> None:
        """Follow the viewer while the dock is to be seen."""
        super().showEvent(event)
        viewer = self._viewer
        self.listen(
            (viewer.layers.selection.events.active, self._follow),
            (viewer.layers.events.removed, self._on_removed),
            (viewer.dims.events.current_step, self._on_step),
            (viewer.dims.events.ndisplay, self._follow),
            (viewer.events.theme, self._on_theme),
        )
        self._clicks.listen(self.pick.isChecked())
        self._on_theme()
        self._follow()
        self._mark_place()

    def hideEvent(self, event: QHideEvent) -> None:
        """Leave the viewer alone: the dock is closed, or behind another one."""
        super().hideEvent(event)
        # Of a window that is minimised everything stays as it is.
        if not event.spontaneous():
            self.leave()
            self._clicks.listen(False)
            self._finder.cancel()
            self._marker.remove()

    def _follow(self, event: Any = None) -> None:
        """Take the active layer, if it is a stack or was fused from one."""
        found = self._stack_of_active()
        if _identity(found) != _identity(self._source):
            self._source = found
            self._drop()
        self._on_step()
        self._settle()

    def _stack_in_use(self) -> tuple[Any, int] | None:
        """Return the stack and its z axis, unless its data was replaced by other axes."""
        if self._source is not None and not _is_stack(*self._source):
            self._follow()
        return self._source

    def _stack_of_active(self) -> tuple[Any, int] | None:
        from napari.layers import Image, Labels

        layers = self._viewer.layers
        active = layers.selection.active
        if active is not None and facts(active) is not None:
            found = decider_of(layers, active)
            return found if found is not None and _is_stack(*found) else None
        if isinstance(active, Image):
            axis = z_axis_of(active)
            return None if axis is None else (active, axis)
        source = self._source
        if isinstance(active, Labels) or source is None or source[0] not in layers:
            return None
        # Shapes, points and the like are drawn upon the stack.
        return source if _is_stack(*source) else None

    def _settle(self) -> None:
        """Say what can be done, and let do only that."""
        flat = self._viewer.dims.ndisplay == 2
        ready = self._source is not None and flat
        for part in (self.pick, self.radius, self.of_view, self.of_shape):
            part.setEnabled(ready)
        if self._source is None:
            active = self._viewer.layers.selection.active
            result = active is not None and facts(active) is not None
            self.stack_name.setText("No z-stack")
            self.text.setText(_OTHER_STACK if result else _NO_STACK)
            return
        self.stack_name.setText(f"Stack: {self._source[0].name}")
        if not flat:
            self.text.setText("Switch the viewer to 2D to pick a place.")
        elif self._answer is None and not self._finder.busy:
            self.text.setText(HOW)
        self._mark_slice()

    def _drop(self) -> None:
        """Forget the curve, which is no longer about what is in view."""
        self._finder.forget()
        self._pixel = self._answer = None
        self.plot.clear()
        self._marker.remove()

    def _on_removed(self, event: Any) -> None:
        if self._source is not None and self._source[0] not in self._viewer.layers:
            self._source = None
            self._drop()
        self._follow()

    def _on_step(self, event: Any = None) -> None:
        if self._answer is not None and not self._is_in_view(self._answer.question.stack):
            # Another time point or channel: the place is kept, to be asked for again.
            self._answer = None
            self.plot.clear()
            self._settle()
        self._mark_slice()

    def _mark_slice(self) -> None:
        if self._source is not None and self._answer is not None:
            self.plot.show_current(slice_in_view(self._viewer, *self._source))

    def _is_in_view(self, stack: Stack) -> bool:
        """Tell whether these are the pixels, time point and channel in view."""
        source = self._stack_in_use()
        return (
            source is not None
            and _pixels_of(*source) == stack.identity
            and self._plane() == stack.plane
        )

    def _plane(self) -> tuple[int, int]:
        """Return time point and channel in view, or the channel that decided for all."""
        assert self._source is not None
        layer, axis = self._source
        t, c = plane_of(layer, axis, step_in_view(self._viewer, layer))
        decided = self._latest_run().get("reference channel")
        return t, c if decided is None else decided

    def _on_click(self, world: Any) -> None:
        source = self._stack_in_use()
        pixel = pixel_at(*source, world) if source is not None else None
        if pixel is not None:
            self._pixel = pixel
            self._ask_around()

    def _ask_around(self) -> None:
        """Ask for the curve around the picked pixel."""
        if self._stack_in_use() is None or self._pixel is None:
            return
        radius = self.radius.value()
        y, x = self._pixel
        name = f"Pixel y {y}, x {x}" + (f" ± {radius}" if radius else "")
        stack = self._stack()
        if stack is not None:
            self._mark_place()
            area = around(self._pixel, radius, stack.pixels.shape[3:])
            self._finder.ask(Question(stack, area, name))

    def _mark_place(self) -> None:
        if self._pixel is not None and self._source is not None:
            self._marker.show(*self._source, self._pixel, self.radius.value())

    def _ask_view(self) -> None:
        source = self._stack_in_use()
        if source is not None:
            area = area_in_view(self._viewer, *source)
            self._ask_best(area, "The view", "The image is not in view.")

    def _ask_shape(self) -> None:
        source = self._stack_in_use()
        if source is not None:
            area = area_of_shapes(self._viewer, *source)
            self._ask_best(
                area,
                "The shape",
                "Draw a rectangle in a shapes layer and select it, then ask again.",
            )

    def _ask_best(self, area: Area | None, name: str, otherwise: str) -> None:
        """Ask for the curve of a large area, whose best slice is shown then."""
        if area is None:
            self.text.setText(otherwise)
            return
        stack = self._stack()
        if stack is not None:
            self._pixel = None
            self._marker.remove()
            self._finder.ask(Question(stack, area, name, rough=True))

    def _stack(self) -> Stack | None:
        """Return the stack in view, with the settings it was or would be fused with."""
        assert self._source is not None
        layer, axis = self._source
        about = self._latest_run()
        try:
            pixels = stack_of(layer, axis)
            config = FuseConfig.checked(**about.get("settings", {}))
            plane = self._plane()
        except IPSError as error:
            self.text.setText(str(error))
            return None
        first, end = about.get("slices", (0, pixels.shape[2]))
        return Stack(_pixels_of(layer, axis), pixels, plane, (first, end), config)

    def _latest_run(self) -> dict[str, Any]:
        """Return what the active result, or else the latest one of the stack, says."""
        assert self._source is not None
        active = self._viewer.layers.selection.active
        known = facts(active) if active is not None else None
        if known is not None and "settings" in known:
            return known
        runs = [facts(layer) for layer in self._viewer.layers]
        source = str(self._source[0].unique_id)
        of_stack = [run for run in runs if run and run.get("source") == source]
        # Images made to compare with are of no fusion.
        fused = [run for run in of_stack if "settings" in run]
        return fused[-1] if fused else {}

    def _on_answer(self, answer: Answer) -> None:
        question = answer.question
        if not self._is_in_view(question.stack):
            # The time slider was moved meanwhile.
            return
        self._answer = answer
        metadata = question.stack.pixels.metadata
        z_step, unit = metadata.z_step, metadata.unit or ""
        self.plot.show_curve(
            answer.curve, question.stack.slices[0], answer.peak, z_step, unit
        )
        self._say_answer()
        if question.rough:
            self._show_slice(answer.best)
        self._mark_slice()

    def _say_answer(self) -> None:
        """Say what the plot shows, or how to get there."""
        answer = self._answer
        if answer is None:
            self.text.setText(HOW)
            return
        metadata = answer.question.stack.pixels.metadata
        depth = ""
        if metadata.z_step is not None:
            place = f"z {answer.peak * metadata.z_step:.4g} {metadata.unit or ''}"
            depth = f" ({place.strip()})"
        stack, channel = answer.question.stack, ""
        if stack.pixels.shape[1] > 1:
            channel = f" in channel {stack.plane[1]}"
        rough = f" Seen at 1/{answer.scale} of the resolution." if answer.scale > 1 else ""
        self.text.setText(
            f"{answer.question.name}{channel}: sharpest in slice {answer.best}, "
            f"peak at {answer.peak:.2f}{depth}.{rough}"
        )

    def _on_failure(self, told: str) -> None:
        self.text.setText(told)
        show_error(told)

    def _on_progress(self, progress: Progress) -> None:
        # A single step would stand still at its beginning.
        several = progress.total > 1
        self.progress.setRange(0, progress.total if several else 0)
        self.progress.setValue(progress.done)
        self.text.setText(progress.task.capitalize() + _BUSY)

    def _on_busy(self, busy: bool) -> None:
        self.progress.setVisible(busy)
        self.cancel.setVisible(busy)
        if busy:
            self.progress.setRange(0, 0)
            self.text.setText("Comparing the slices" + _BUSY)
        elif self.text.text().endswith(_BUSY) and self._source is not None:
            self._say_answer()

    def _show_slice(self, slice_: int) -> None:
        source = self._stack_in_use()
        if source is not None:
            show_slice(self._viewer, *source, slice_)

    def _on_theme(self, event: Any = None) -> None:
        self.plot.set_colors(get_theme(self._viewer.theme))


def _identity(source: tuple[Any, int] | None) -> tuple[str, int] | None:
    return (str(source[0].unique_id), source[1]) if source else None


def _is_stack(layer: Any, axis: int) -> bool:
    """Tell whether a layer still has slices along an axis."""
    try:
        axes_of(layer, axis)
    except IPSError:
        return False
    return True


def _pixels_of(layer: Any, axis: int) -> tuple[Any, ...]:
    """Return what tells a stack from others, such as other pixels in the same layer."""
    return str(layer.unique_id), axis, id(level_zero(layer))
