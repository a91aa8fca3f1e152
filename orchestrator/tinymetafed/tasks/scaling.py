"""Standardisation: columns of mean 0 and standard deviation 1 over what the seen devices have."""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def standardised(
    values: NDArray[np.generic], seen: NDArray[np.integer] | NDArray[np.bool_]
) -> tuple[Values, NDArray[np.intp]]:
    """float64 in the form of `values`, [rows, …, columns]: each column less its mean, divided by
    its standard deviation, both over the rows `seen`. And the columns that are constant there: they
    are 0 in every row, since nothing can be learnt from them and any scale would be arbitrary.

    A column is constant where its variance may be rounding alone: n is the number of values, μ the
    mean, ε that of float64, and var ≤ n·ε·var + (n·μ·ε)². Source: `_is_constant_feature` of
    scikit-learn's StandardScaler (sklearn/preprocessing/_data.py).
    """
    result = values.astype(np.float64)
    learnt, axes = result[seen], tuple(range(values.ndim - 1))
    mean, scale = learnt.mean(axis=axes), learnt.std(axis=axes)
    n, eps = learnt[..., 0].size, np.finfo(np.float64).eps
    constant = scale**2 <= n * eps * scale**2 + (n * mean * eps) ** 2
    result = (result - mean) / np.where(constant, 1, scale)
    result[..., constant] = 0
    return result, np.flatnonzero(constant)
