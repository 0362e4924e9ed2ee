"""`pipeline.chain_training`'s step on a GPU without a wait: captured once as a CUDA graph, its faces prepared ahead.

A step of small networks is thousands of small kernels, and starting each from Python takes longer than computing it.
A captured step starts all of them by one call (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs); while
it runs, a thread prepares the next faces on a stream of its own.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from common.errors import UserError
from facial_rec.distributed import Place
from facial_rec.finetune_state import Batch
from pipeline.chain_training import ChainState, ChainTeaching, Prepared, backward, prepared_loss, require_finite

WARM_UP = 3  # steps before the capture: the first ones allocate the optimiser's state and choose kernels
REPORT_EVERY = 25  # steps between looks at the losses, each of which waits for the GPU
AHEAD = 2  # batches that are prepared before they are needed


class GraphedStep:
    """One optimiser step after another, on a single GPU. Losses stay there until `flush`."""

    def __init__(self, state: ChainState, teaching: ChainTeaching, place: Place) -> None:
        if place.device.type != "cuda" or place.world != 1:
            raise UserError("--cuda-graph captures the step of one process on CUDA: use --device cuda, no torchrun.")
        self.state, self.teaching, self.place = state, teaching, place
        self.alone = threading.Lock()
        """Held while faces are prepared, and while a step is captured: no other work may start then."""
        self._graph: torch.cuda.CUDAGraph | None = None
        self._held: Prepared | None = None
        self._names: list[str] = []
        self._values = torch.empty(0)
        self._sums = torch.empty(0)
        self._steps = self._warm = 0
        self._rates: dict[float, Tensor] = {}
        for group in state.optimizer.param_groups:
            fresh = torch.zeros((), device=place.device)
            group["lr"] = self._rates.setdefault(group["scale"], fresh)

    def __call__(self, batch: Prepared, rate: float) -> None:
        """One step with this rate."""
        for scale, tensor in self._rates.items():
            tensor.fill_(rate * scale)
        if self._warm == WARM_UP:
            self._capture(batch)
        self._warm += 1
        if self._graph is None or self._held is None:
            self._values = self._uncaptured(batch)
        else:
            for held, given in zip(self._held.tensors(), batch.tensors(), strict=True):
                held.copy_(given)
            self._graph.replay()
        self.state.moved()
        self._sums = self._values.clone() if self._steps == 0 else self._sums.add_(self._values)
        self._steps += 1

    def flush(self) -> dict[str, float]:
        """Wait, count the losses of the steps since the last flush in the state, and return their means.

        Raises UserError where one of them was not finite.
        """
        if not self._steps:
            return {}
        means = dict(zip(self._names, (self._sums / self._steps).tolist(), strict=True))
        for name, value in means.items():
            require_finite(name, torch.tensor(value), self.state.step)
        for name in (name for name in self._names if not name.startswith("gradient")):
            total, steps = self.state.sums.get(name, (0.0, 0))
            self.state.sums[name] = [total + means[name] * self._steps, steps + self._steps]
        self._steps = 0
        return means

    def _step(self, batch: Prepared) -> Tensor:
        total, parts = prepared_loss(self.state, self.teaching, batch)
        norms = backward(self.state, total, self.place)
        self.state.optimizer.step()
        named = {"loss": total.detach(), **parts, "gradient of the DSR": norms[0], "gradient of EdgeFace": norms[1]}
        self._names = list(named)
        return torch.stack([value.detach().float() for value in named.values()])

    def _uncaptured(self, batch: Prepared) -> Tensor:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            values = self._step(batch)
        torch.cuda.current_stream().wait_stream(side)
        return values

    def _capture(self, batch: Prepared) -> None:
        with self.alone:
            self.state.optimizer.zero_grad(set_to_none=True)
            self._held = Prepared(*(tensor.clone() for tensor in batch.tensors()))
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph):
                    self._values = self._step(self._held)
                self._graph = graph
            except RuntimeError as error:
                print(f"[graph] the step cannot be captured, and goes on kernel by kernel, slower: {error}", flush=True)


def prepared_ahead(
    batches: Iterable[Batch], make: Callable[[Batch], Prepared], alone: threading.Lock
) -> Iterator[Prepared]:
    """What `make` gives for every batch, computed by a thread on a CUDA stream of its own while the last one is used.

    `alone` is held while it computes. What goes wrong there is raised here.
    """
    made: queue.Queue[tuple[Prepared, torch.cuda.Event] | BaseException | None] = queue.Queue(AHEAD)
    stopped = threading.Event()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())

    def put(one: tuple[Prepared, torch.cuda.Event] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return made.put(one, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            source = iter(batches)
            while not stopped.is_set():
                with alone, torch.cuda.stream(stream):  # the reading too, for faces may lie on the GPU
                    batch = next(source, None)
                    made_of_it = None if batch is None else (make(batch), torch.cuda.Event())
                    if made_of_it is not None:
                        made_of_it[1].record(stream)
                put(made_of_it)  # it may wait for the taker, who may be waiting for `alone`
                if made_of_it is None:
                    return
        except BaseException as error:  # noqa: BLE001 - raised where the faces are used
            put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (one := made.get()) is not None:
            if isinstance(one, BaseException):
                raise one
            ready, done = one
            current = torch.cuda.current_stream()
            current.wait_event(done)
            for tensor in ready.tensors():
                tensor.record_stream(current)
            yield ready
    finally:
        stopped.set()
        thread.join()
