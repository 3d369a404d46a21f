"""Commands that run from the checkout: training data, evaluation, benchmarks."""
