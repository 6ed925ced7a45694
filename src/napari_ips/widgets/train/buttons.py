"""The buttons of the training dock, and in which phase each can be pressed."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_ips.widgets.train.session import Phase, TrainingSession

# What is offered in each phase, from left to right.
_OFFERED = {
    Phase.IDLE: ("train",),
    Phase.PREPARING: ("cancel",),
    Phase.TRAINING: ("pause", "keep", "discard"),
    Phase.PAUSED: ("resume", "keep", "discard", "back"),
    Phase.STOPPED: ("train",),
    Phase.DONE: ("discard", "back"),
    Phase.FAILED: ("resume", "discard", "back"),
}
_TEXTS = {
    "train": ("Train", "Train weights on these images (Ctrl+Return)"),
    "cancel": ("Cancel", "Stop before the training has begun"),
    "pause": ("Pause", "Write a checkpoint after this step, and free memory and processor"),
    "resume": ("Resume", "Go on from the last checkpoint"),
    "keep": ("Stop and keep best", "End the run now, with the best weights so far"),
    "discard": ("Discard", "End the run, and delete what it has learnt"),
    "back": ("New run", "Back to the settings; this run is kept as it is"),
}


class RunButtons(QWidget):
    """Shows the buttons of a phase, and tells by signals which was pressed.

    Attributes
    ----------
    pressed : Signal(str)
        A key of `buttons`.
    buttons : dict of QPushButton
    """

    pressed = Signal(str)

    def __init__(self, more: QPushButton, parent: QWidget) -> None:
        super().__init__(parent)
        self.buttons: dict[str, QPushButton] = {}
        row, second = QHBoxLayout(), QHBoxLayout()
        for key, (text, tip) in _TEXTS.items():
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(lambda _=False, key=key: self.pressed.emit(key))
            (second if key in ("discard", "back") else row).addWidget(button, stretch=1)
            self.buttons[key] = button
        self.buttons["train"].setShortcut("Ctrl+Return")
        self.more = more
        row.addWidget(more, alignment=Qt.AlignmentFlag.AlignRight)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addLayout(second)

    def follow(self, session: TrainingSession, ready: bool) -> None:
        """Offer what can be done with a session now.

        Parameters
        ----------
        session : TrainingSession
        ready : bool
            Whether a run could begin with what the form says.
        """
        offered = set(_OFFERED[session.phase])
        if session.phase is Phase.FAILED and not session.can_resume:
            offered -= {"resume"}
        if session.run is None and session.phase is not Phase.TRAINING:
            offered -= {"discard"}
        for key, button in self.buttons.items():
            button.setVisible(key in offered)
            button.setEnabled(not session.asked and (ready or key != "train"))
