"""Spark: the total of a data frame of logits and labels, by mapInArrow; partitions may be any, in any order.

Each partition sends one state of 1.1 kB, and adding them up rounds nothing.
"""

import sys

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

import fastloss

LOSS = fastloss.CrossEntropyLoss()
ROWS, CLASSES = 1000, 40


def totals(batches):
    """One row, the state of the total, from a partition's record batches."""
    total = fastloss.Total()
    for batch in batches:
        numbers = batch.column("logits").flatten().to_numpy()
        labels = batch.column("label").to_numpy()
        total += LOSS.total(numbers.reshape(len(labels), -1), labels)
    yield pa.RecordBatch.from_pydict({"state": [total.state.tobytes()]})


rng = np.random.default_rng(0)
logits, labels = rng.standard_normal((ROWS, CLASSES), np.float32), rng.integers(0, CLASSES, ROWS)
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.pyspark.python", sys.executable)
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
rows = [(row.tolist(), int(label)) for row, label in zip(logits, labels, strict=True)]
frame = spark.createDataFrame(rows, "logits array<float>, label long")
found = set()
for partitions in (1, 3, 8):
    states = frame.repartition(partitions).mapInArrow(totals, "state binary").collect()
    found.add(sum(fastloss.Total.from_state(np.frombuffer(row.state, np.int64)) for row in states))
spark.stop()
assert found == {LOSS.total(logits, labels)}  # the same bits for all partitions
(total,) = found
print(f"mean {total.mean:.6f}, perplexity {total.perplexity:.3f} of {total.count} samples")
