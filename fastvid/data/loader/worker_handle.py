"""The training process's end of the decoding process: starts it, restarts it, and takes clips out of the ring."""

import contextlib
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading

import numpy as np

from fastvid.data.loader.messages import Decoded, Failed, Taken
from fastvid.data.loader.plan import DecodePlan

log = logging.getLogger(__name__)

_MAIN = "from fastvid.data.loader.worker import main"
_MOST_DEATHS = 3  # without a clip in between
_PATIENCE = 60.0  # seconds without a clip after which it is said what is waited for


class DecodeWorker:
    """Clips of a plan, by turn, from a child process that decodes ahead as far as the ring has slots.

    A child that dies is started again and decodes what was missing; what comes out is the same.

    Args:
        plan: what to decode.
        slots: turns that may be decoded and not yet taken.

    Attributes:
        threads: decoding threads at the moment.
        ring: where clips are; None where this process decodes them.
    """

    def __init__(self, plan: DecodePlan, slots: int):
        pickle.dumps(plan)  # what cannot be sent is said before anything is started
        self.plan, self.slots, self.threads = plan, slots, plan.threads
        self.ring = None if plan.options.by_device else plan.ring(slots)
        self._decoded: dict[int, Decoded] = {}
        self._taken = 0  # all turns before this one have been copied
        self._copied: set[int] = set()  # turns after it that have been copied too
        self._deaths = 0
        self._stopped = False
        # Where this process finds modules and relative paths now, a child that is started later does too.
        self._cwd, self._modules = os.getcwd(), os.pathsep.join(os.path.abspath(p) for p in sys.path)
        self._lock = threading.Lock()  # of the child and the connection to it, which a restart replaces
        with self._lock:
            self._start()

    @property
    def pid(self) -> int:
        """Return the process id of the child."""
        return self._process.pid

    def private_bytes(self) -> int:
        """Return the bytes of memory that the child holds now, without the ring; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.pid}/smaps_rollup") as file:
                lines = [line.split() for line in file]
        except OSError:
            return 0
        return sum(int(line[1]) * 1024 for line in lines if line[0] == "Anonymous:")

    def decoded(self, turn: int) -> Decoded:
        """Wait for a turn.

        Raises:
            Exception: what went wrong in the child, if it was not a bad sample.
            RuntimeError: the child has died again and again.
        """
        while turn not in self._decoded:
            self._receive()
        return self._decoded[turn]

    def take(self, turn: int, out: np.ndarray) -> None:
        """Copy a decoded turn's clip out of the ring and free its slot. A clip may have less frames than a slot."""
        assert self.ring is not None
        np.copyto(out, self.ring.slot(turn)[: len(out)])
        self.forget(turn)

    def forget(self, turn: int) -> None:
        """Free a decoded turn's slot."""
        del self._decoded[turn]
        self._copied.add(turn)
        while self._taken in self._copied:
            self._copied.remove(self._taken)
            self._taken += 1
        self._tell(Taken(self._taken))

    def handed_out(self, waited: bool) -> None:
        """Report to the child that a batch was handed out. ``waited``: it was not ready when requested."""
        self._tell(Taken(self._taken, waited))

    def stop(self) -> None:
        """End the child; whoever waits for a turn gets an EOFError."""
        self._stopped = True
        self._process.kill()  # before the lock: whoever holds it may be sending to a child that does not listen
        with self._lock:
            self._process.kill()  # a restart may just have replaced it
        self._process.wait()

    def close(self) -> None:
        """End the child and release the ring's memory. No thread may be waiting for a turn."""
        self.stop()
        self._connection.close()
        if self.ring is not None:
            self.ring.close()

    def _start(self) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        descriptors = (theirs.fileno(), -1 if self.ring is None else self.ring.descriptor)
        self._process = subprocess.Popen(
            # The first entry of its own sys.path would be whatever directory it is started in.
            [sys.executable, "-c", f"import sys; sys.path[:] = filter(None, sys.path); {_MAIN}; main{descriptors}"],
            pass_fds=[d for d in descriptors if d >= 0],
            stdin=subprocess.DEVNULL,
            cwd=self._cwd,
            env={**os.environ, "PYTHONPATH": self._modules},
            start_new_session=True,  # an interrupt from the keyboard is the training's business
        )
        theirs.close()
        done = {turn for turn in self._decoded if turn >= self._taken} | self._copied
        self._send((self.plan, done, self._taken, self.slots))

    def _tell(self, message: Taken) -> None:
        with self._lock:
            self._send(message)

    def _send(self, message) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(message)  # a child that has died is met, and said, when it is next listened to

    def _receive(self) -> None:
        waited = 0.0
        while True:
            try:
                if self._connection.poll(_PATIENCE):
                    message = self._connection.recv()
                    break
            except (EOFError, OSError):  # in the middle of a message too
                if self._stopped:
                    raise ValueError("the loader is closed") from None
                self._restart()
                return
            waited += _PATIENCE
            log.warning("no clip for %.0f s; being read or decoded: %s", waited, ", ".join(self._in_flight()))
        if isinstance(message, Failed):
            raise message.error from RuntimeError(f"in the decoding process:\n{message.trace}")
        self._decoded[message.turn], self._deaths, self.threads = message, 0, message.threads

    def _restart(self) -> None:
        code = self._process.wait()
        self._connection.close()
        self._deaths += 1
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if code == -9:
            how += ", as the system does when memory runs out"
        if self._deaths >= _MOST_DEATHS:
            raise RuntimeError(
                f"the decoding process {how}, {self._deaths} times without finishing a clip; it was at one of "
                f"{', '.join(self._in_flight())}"
            )
        log.warning("the decoding process %s: it is started again where it was", how)
        self.threads = self.plan.threads
        with self._lock:
            if not self._stopped:
                self._start()

    def _in_flight(self) -> list[str]:
        """Return the keys of the samples that the child may have been busy with."""
        sampler, turns = self.plan.sampler, range(self._taken, self._taken + self.slots)
        open_turns = [turn for turn in turns if turn not in self._decoded and turn not in self._copied]
        positions = [sampler.position(turn) for turn in open_turns[: self.threads]]
        indices = [sampler.index(position) for position in positions if position is not None]
        try:
            return [self.plan.source.samples[i].key for i in indices]
        except Exception:  # the index that names them may be what cannot be had
            return [f"sample {i} of {self.plan.source.description}" for i in indices]
