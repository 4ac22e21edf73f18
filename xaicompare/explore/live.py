"""A server of the pages in a thread of its own, for Python and notebooks, or in the foreground for a console."""

import socket
import threading
import time
from collections.abc import Sequence
from html import escape

import uvicorn
from torch import Tensor, nn

from xaicompare.errors import XaiCompareError
from xaicompare.explore.exhibit import Exhibit, of_model
from xaicompare.explore.server import application
from xaicompare.zoo import Images, Scale

HOST = "127.0.0.1"
_PATIENCE = 30.0  # seconds for a server to start
_AT_ONCE = 256  # connections


class Explorer:
    """The pages while they are served; a notebook shows them in a frame.

    >>> with Explorer((of_dataset("digits"),)) as pages:  # doctest: +SKIP
    ...     print(pages.url)
    http://127.0.0.1:40123/
    """

    def __init__(self, exhibits: tuple[Exhibit, ...], *, port: int = 0) -> None:
        self._socket = _bound(port)
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}/"
        self._server = uvicorn.Server(_config(exhibits))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def start(self) -> "Explorer":
        """Serves from now on, in a thread.

        Raises:
            XaiCompareError: the server does not start.
        """
        self._thread.start()
        until = time.monotonic() + _PATIENCE
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise XaiCompareError(f"the pages at {self.url} don't start; expected a free port. Try another.")
            time.sleep(0.01)
        return self

    def run(self) -> None:
        """Serves in this thread until Ctrl-C."""
        self._server.run([self._socket])

    def close(self) -> None:
        """Ends it; what is being computed stops at its next pass through a network."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)
        self._socket.close()

    def __enter__(self) -> "Explorer":
        return self if self._thread.is_alive() else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repr_html_(self) -> str:
        return f'<iframe src="{escape(self.url)}" width="100%" height="900" style="border: 0"></iframe>'

    def __repr__(self) -> str:
        return f"Explorer({self.url})"


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen(128)  # whoever comes before the server is up waits
    except OSError as error:
        made.close()
        raise XaiCompareError(
            f"port {port} can't be listened on ({error}); expected a free one. Choose another, or 0 for any."
        ) from error
    return made


def _config(exhibits: tuple[Exhibit, ...]) -> uvicorn.Config:
    return uvicorn.Config(
        application(exhibits),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_AT_ONCE,
        timeout_graceful_shutdown=2,
        ws="none",
    )


def explore(
    model: nn.Module,
    images: Images | Tensor,
    *,
    classes: Sequence[str] | None = None,
    scale: Scale | None = None,
    port: int = 0,
) -> Explorer:
    """Serves pages, on this machine only, to explain these images by hand; returns at once.

    A notebook shows them where the returned object stands last in a cell; `close()` ends them.

    Args:
        model: maps inputs to (n, classes); run in evaluation mode, not changed.
        images: of a data set, or (n, 1 or 3, side, side) as the model takes them; a tensor's are shown in 256 steps.
        classes: the names of all classes; None: their numbers.
        scale: what was subtracted from pixels and what they were divided by; None: that of `images`, or of a tensor the
            range of its values.
        port: 0: any free one.

    Raises:
        InputError: images of another shape, or other than as many names as outputs.
        XaiCompareError: the port is taken.
    """
    return Explorer((of_model(model, images, classes=classes, scale=scale),), port=port).start()
