"""`open_cluster`: into a Ray cluster, that of an address or one of this machine alone, and out of it again."""

import logging
import os
import secrets
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType

from distill.errors import InputError
from distill.extras import install_command
from distill.quiet import quiet_stderr
from distill.refusals import reason

LOCAL = "local"
"""The address of a cluster that is started on this machine, and ends with the command."""
AUTO = "auto"
"""The address of the cluster that `ray start` began on this machine."""

_SECONDS = 5.0  # to be reached, and again to answer
_STORE_BYTES = 200 * 2**20  # of a local cluster, for what waits to be taken; beyond that Ray takes files
# What begins every conversation with a gRPC server (RFC 9113, 3.4): it answers with its settings at once.
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_FRAME_BYTES, _SETTINGS_FRAME = 9, 4
_HOW_TO_JOIN = "ray start --head prints the address, and ray start --address HOST:PORT lets this machine join"


def import_ray() -> ModuleType:
    """Return Ray.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # who asks for no GPU sees none
    try:
        import ray
    except ImportError as error:
        raise InputError(f"--ray needs Ray ({reason(error)}): {install_command('ray')}") from error
    return ray


@contextmanager
def open_cluster(address: str, *, cpus: int | None = None) -> Iterator[None]:
    """Be part of a cluster within the block; where this process is part of one already, that one is taken.

    Args:
        address: HOST:PORT of its head, `AUTO` or `LOCAL`.
        cpus: of a local one; by default those of this machine.

    Raises:
        InputError: Ray is not installed, nobody answers there, or other versions do.
    """
    if address not in (LOCAL, AUTO):
        _check_answers(address)  # before Ray, which waits for minutes
    if address != LOCAL:
        _show_token()
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    with ExitStack() as stack:
        options = {**_local_options(stack), "num_cpus": cpus} if address == LOCAL else {"address": address}
        stack.callback(ray.shutdown)
        try:
            _join(ray, options)
        except Exception as error:  # whatever a library of networks raises
            raise InputError(_cannot_join(address, error)) from error
        yield


def _join(ray: ModuleType, options: dict) -> None:
    with quiet_stderr(), _signals_kept():
        for last in (options["address"] != LOCAL, True):
            try:
                ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
                return
            except Exception:  # Ray gives its processes half a minute, which is too little where others are busy
                ray.shutdown()
                if last:
                    raise


def _show_token() -> None:
    """Show the token, where there is one, as `ray start` does; Ray must know of it before it is imported."""
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or (Path.home() / ".ray" / "auth_token").is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Let SIGTERM do afterwards what it did: Ray ends the process in its own way, with another exit code."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _local_options(stack: ExitStack) -> dict:
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")  # where the machine is busy
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
        # Nobody else on this machine may give it work. Ray would leave a token of its own in the home folder.
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        stack.callback(os.environ.pop, "RAY_AUTH_TOKEN")
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
    return {
        "address": LOCAL,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
        "_temp_dir": folder,
    }


def _cannot_join(address: str, error: Exception) -> str:
    said = reason(error)
    if address == LOCAL:
        return f"Ray cannot start on this machine ({said}): look at its memory and at {tempfile.gettempdir()}"
    return (
        f"the Ray cluster at {address} cannot be joined ({said}): give all its machines the same Python, Ray "
        f"and token; {_HOW_TO_JOIN}"
    )


def _check_answers(address: str) -> None:
    """Refuse an address where no gRPC server answers.

    Raises:
        InputError: it is none, or nobody answers within seconds.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16 or "/" in host:
        raise InputError(
            f'--ray must be HOST:PORT of a cluster, auto, or nothing, received "{address}": {_HOW_TO_JOIN}'
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return  # whoever encrypts does not understand the greeting
            connection.sendall(_GREETING)
            answer = connection.makefile("rb").read(_FRAME_BYTES)
    except (OSError, UnicodeError) as error:
        raise InputError(f"nobody answers at {address} ({reason(error)}): {_HOW_TO_JOIN}") from error
    if len(answer) < _FRAME_BYTES or answer[3] != _SETTINGS_FRAME:
        raise InputError(f"what answers at {address} is not a Ray cluster: {_HOW_TO_JOIN}")
