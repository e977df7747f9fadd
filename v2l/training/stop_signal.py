"""The signals that ask a training to stop: SIGTERM and SIGUSR2."""

import signal


class StopSignal:
    """Remembers SIGTERM and SIGUSR2, so that the training loop can end between two steps."""

    def __enter__(self) -> "StopSignal":
        self.received = False
        numbers = (signal.SIGTERM, signal.SIGUSR2)
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: object) -> None:
        self.received = True
