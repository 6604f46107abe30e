"""What each GPU kernel may take, under each compiler that was tried: resources.json, and the judgement by it.

The file holds ``{compiler: {kernel: {sm: [registers, shared bytes]}}}``. Compilers allocate differently, and nobody has
tried all of them: under a compiler that is not in the file, figures are reported in a warning and fail nothing.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Registers of a thread, shared bytes of a block, bytes spilled by a thread."""

    registers: int
    shared: int
    spilled: int


Table = dict[str, dict[str, dict[str, list[int]]]]


class Resources:
    """The recorded figures, and those measured now, which :meth:`save` adds."""

    def __init__(self, path: Path, update: bool = False):
        self.path, self.update = path, update
        self.recorded: Table = json.loads(path.read_text()) if path.exists() else {}
        self.measured: Table = {}

    def judge(self, compiler: str, kernel: str, usage: Mapping[str, Usage]) -> None:
        """Compares a kernel's figures, by architecture (``"sm_80"``), with the recorded ones.

        Raises:
            AssertionError: under a recorded compiler, the kernel spills, takes more than is recorded or has no figures.
        """
        self.measured.setdefault(compiler, {})[kernel] = {sm: [u.registers, u.shared] for sm, u in usage.items()}
        if self.update:
            rows = None
        elif compiler in self.recorded:
            rows = self.recorded[compiler].get(kernel)
            assert rows is not None, f"resources.json has {compiler} but not {kernel}: write it anew"
        else:
            self._report(compiler, kernel, usage)
            return
        for sm, found in usage.items():
            assert found.spilled == 0, f"{kernel} for {sm} spills {found.spilled} bytes"
            if rows is None:
                continue
            if sm not in rows:
                warnings.warn(f"resources.json has no figures of {kernel} for {sm}: {found}", stacklevel=2)
                continue
            registers, shared = rows[sm]
            assert found.registers <= registers, f"{kernel} for {sm}: {found.registers} registers, {registers} allowed"
            assert found.shared <= shared, f"{kernel} for {sm}: {found.shared} shared bytes, {shared} allowed"

    def _report(self, compiler: str, kernel: str, usage: Mapping[str, Usage]) -> None:
        """Warns that a kernel is not judged, with the figures that no recorded compiler has."""
        family = compiler.split()[0]
        tables = [
            table[kernel] for name, table in self.recorded.items() if name.split()[0] == family and kernel in table
        ]
        more = []
        for sm, found in usage.items():
            registers, shared = (max((t[sm][i] for t in tables if sm in t), default=0) for i in range(2))
            if found.spilled or found.registers > registers or found.shared > shared:
                more.append(
                    f"{sm} takes {found.registers} registers ({registers}), {found.shared} shared bytes ({shared}) and "
                    f"spills {found.spilled}"
                )
        said = f"{kernel} takes more than under any recorded compiler (in brackets): {'; '.join(more)}" if more else ""
        warnings.warn(
            f"resources.json does not have {compiler}, so registers, shared memory and spills fail no test. "
            + (said or "This kernel takes no more than under the recorded compilers."),
            stacklevel=3,
        )

    def save(self) -> None:
        """Writes the file with the measured figures in the place of older ones of the same compilers and kernels."""
        table = {
            name: self.recorded.get(name, {}) | self.measured.get(name, {}) for name in {*self.recorded, *self.measured}
        }
        compilers = []
        for compiler in sorted(table):
            rows = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in sorted(table[compiler].items())]
            compilers.append(f" {json.dumps(compiler)}: {{\n" + ",\n".join(rows) + "\n }")
        self.path.write_text("{\n" + ",\n".join(compilers) + "\n}\n")
