"""Other programs are run, and what they take is measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from napari_ips import IPSError
from napari_ips.evaluation.running import run_program

windows = pytest.mark.skipif(sys.platform == "win32", reason="not told by the system")


def python(code):
    return [sys.executable, "-c", code]


@windows
def test_time_cpu_time_and_memory_are_those_of_the_program():
    # A program inherits the peak of the one that starts it, if nothing is done about it.
    large = np.ones(300_000_000, np.uint8)
    idle = run_program(python("import time; time.sleep(0.3)"), "idle")
    assert 0.3 < idle.seconds < 10
    assert idle.cpu_seconds < idle.seconds
    assert 3e6 < idle.peak_memory < 150e6 < large.nbytes
    filled = run_program(python("x = b'1' * 200_000_000"), "filled")
    assert 200e6 < filled.peak_memory < 300e6


@windows
def test_what_it_starts_itself_counts():
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    assert run_program(python(code), "parent").cpu_seconds > 0.3


def test_environment_and_log_are_those_given(tmp_path):
    log = tmp_path / "log.txt"
    environment = os.environ | {"WORD": "seven"}
    code = "import os; print(os.environ['WORD'])"
    run_program(python(code), "told", log=log, environment=environment)
    assert log.read_text().strip() == "seven"


def test_what_fails_is_told_in_a_line(tmp_path):
    with pytest.raises(IPSError, match="it failed with code 3: no lens"):
        run_program(python("import sys; print('no\\nlens'); sys.exit(3)"), "it")
    with pytest.raises(IPSError, match="it took more than 0.5 s"):
        run_program(python("import time; time.sleep(60)"), "it", timeout=0.5)
    with pytest.raises(IPSError, match="it cannot be started: No such file"):
        run_program([str(tmp_path / "none")], "it")


@windows
def test_ctrl_c_ends_the_program_too(tmp_path):
    told = tmp_path / "pid.txt"
    stubborn = (
        "import os, pathlib, signal, sys, time;"
        "signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    )
    # What is started in the background may have been told to ignore Ctrl-C.
    caller = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from napari_ips.evaluation.running import run_program;"
        "run_program([sys.executable, '-c', *sys.argv[1:]], 'it')"
    )
    command = [*python(caller), stubborn, str(told)]
    # In a group of its own, as a terminal has it, to which Ctrl-C is sent.
    group = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not (told.exists() and told.read_text()):
        time.sleep(0.05)
    os.killpg(group.pid, signal.SIGINT)
    assert group.wait(20) != 0
    assert not is_running(int(told.read_text()))


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
