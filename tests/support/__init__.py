"""What the tests share: losses with inputs, inputs chosen to hurt, exact truths, calls made from bytes."""
