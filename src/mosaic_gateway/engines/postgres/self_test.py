"""Test that pgvector's machine code runs on this CPU, once for each runtime and CPU; a pass is recorded.

The wheel's ``vector.so`` is compiled for its builder's CPU; on an older CPU the first distance calculation raises
SIGILL, which ends all sessions. The test detects this at the first start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.rows import TupleRow

from mosaic_gateway.fs.files import write_file
from mosaic_gateway.fs.record_fields import Field, RecordError, digest, read_record

__all__ = ["SelfTestRecord", "run_self_test"]

FIELDS = {"passed": Field(digest)}
#: Enough dimensions for every unrolled and vectorised loop.
PROBE = "array_fill(0.5::real, ARRAY[96])::vector"
TABLE = """
    CREATE TEMPORARY TABLE mosaic_self_test ON COMMIT DROP AS
    SELECT n, v, v::halfvec(96) AS h, binary_quantize(v)::bit(96) AS b
    FROM (SELECT n, (SELECT array_agg(sin(n * i)::real) FROM generate_series(1, 96) i)::vector(96) AS v
          FROM generate_series(1, 32) n) AS rows
"""
FUNCTIONS = """
    SELECT avg(v), sum(v), avg(h), max(vector_norm(v)), max(l2_norm(h)), sum(b <~> ~b), sum(b <%> ~b),
           sum((v + v) <-> (v * v)), sum(l2_normalize(v) <=> v), sum(l2_normalize(h) <=> h),
           sum(v::halfvec::vector <-> v), sum(v::sparsevec(96) <-> v::sparsevec(96))
    FROM mosaic_self_test
"""
OPERATORS = ("<->", "<#>", "<=>", "<+>")
INDEXED = OPERATORS[:3]
#: Each index method with each type; the cosine operator classes also normalise.
INDEXES = (
    "hnsw (v vector_l2_ops)",
    "hnsw (h halfvec_cosine_ops)",
    "hnsw (b bit_hamming_ops)",
    "ivfflat (v vector_cosine_ops) WITH (lists = 4)",
    "ivfflat (h halfvec_l2_ops) WITH (lists = 4)",
    "ivfflat (b bit_hamming_ops) WITH (lists = 4)",
)


def run_self_test(connection: psycopg.Connection[TupleRow]) -> None:
    """Use all vector types, operators and index methods in a transaction that is rolled back.

    Raises psycopg.OperationalError if the backend crashes (SIGILL), another psycopg.Error if a statement fails.
    """
    with connection.transaction(force_rollback=True):
        for statement in _statements():
            connection.execute(statement)


def _statements() -> Iterator[str]:
    yield "SET LOCAL client_min_messages = error"
    yield "CREATE EXTENSION IF NOT EXISTS vector"
    yield TABLE
    for index in INDEXES:
        yield f"CREATE INDEX ON mosaic_self_test USING {index}"
    distances = [f"sum(v {operator} {PROBE}), sum(h {operator} {PROBE}::halfvec)" for operator in OPERATORS]
    yield f"SELECT {', '.join(distances)} FROM mosaic_self_test"  # noqa: S608 - constants
    yield FUNCTIONS
    yield "SET LOCAL enable_seqscan = off"
    for column, kind in (("v", "vector"), ("h", "halfvec")):
        for operator in INDEXED:
            probe = f"{PROBE}::{kind}"
            yield f"SELECT n FROM mosaic_self_test ORDER BY {column} {operator} {probe} LIMIT 5"  # noqa: S608 - constants


class SelfTestRecord:
    """The record, in a file of the home, that a runtime passed the test on a CPU."""

    def __init__(self, path: Path, *subject: str) -> None:
        """*subject*: all that the result depends on (programs, versions, CPU fingerprint)."""
        self._path = path
        self._key = hashlib.sha256("\n".join(subject).encode()).hexdigest()

    def passed(self) -> bool:
        """Return whether a pass is recorded for this subject."""
        try:
            return bool(read_record(self._path, FIELDS)["passed"] == self._key)
        except (OSError, RecordError):
            return False

    def write(self) -> None:
        """Record a pass. Raises OSError."""
        write_file(self._path, json.dumps({"passed": self._key}))
