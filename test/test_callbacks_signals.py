import os
import signal

import pytest

from keypoint_detection.callbacks_signals import StopRequest


def test_a_signal_is_noted_once_and_the_second_ctrl_c_interrupts(capfd: pytest.CaptureFixture[str]) -> None:
    former, request = signal.getsignal(signal.SIGTERM), StopRequest()
    request.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert request.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        request.give_back()
    assert signal.getsignal(signal.SIGTERM) is former
    assert capfd.readouterr().err == "\nSIGTERM: saving a checkpoint after this step, then stopping\n"
