"""Children that hear signals, whoever started the tests."""

import signal


def heed():
    """For `preexec_fn`: scripts in the background, and nohup, hand on signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
