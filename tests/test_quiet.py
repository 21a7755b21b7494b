"""The standard error is muted, and comes back."""

import os
from threading import Event, Thread

from distill.quiet import quiet_stderr


def test_two_threads_do_not_lose_the_standard_error(capfd):
    inside, first_has_left = Event(), Event()

    def mute():
        with quiet_stderr():
            inside.set()
            first_has_left.wait(5)

    other = Thread(target=mute)
    with quiet_stderr():
        other.start()
        inside.wait(0.2)
        os.write(2, b"muted")
    first_has_left.set()
    other.join()
    os.write(2, b"said")
    assert capfd.readouterr().err == "said"


def test_one_within_another_is_no_deadlock(capfd):
    with quiet_stderr():
        with quiet_stderr():
            pass
        os.write(2, b"muted")
    os.write(2, b"said")
    assert capfd.readouterr().err == "said"
