"""scikit-learn's tests of its own classes, with the estimators in their place."""

import ast
import importlib.util
import types
from pathlib import Path

import pytest
from numba import config

pytest.importorskip("sklearn", "1.7", reason="scikit-learn >= 1.7 is not installed")  # whose fit takes weights
if config.DISABLE_JIT:
    pytest.skip("trains for thousands of steps: too slow without compilation", allow_module_level=True)


# Run with solver="sgd" in place of the other solvers that they name, which is not what they are about.
AS_SGD = (
    "test_multilabel_classification",
    "test_sparse_matrices",
    "test_warm_start",
    "test_mlp_warm_start_no_convergence",
    "test_mlp_sample_weight_with_early_stopping",
)
EXCLUDED = {
    "test_gradient": "calls _loss_grad_lbfgs, which is internal; test_mlp_gradients has gradients",
    "test_lbfgs_classification": "is about lbfgs",
    "test_lbfgs_regression": "is about lbfgs",
    "test_lbfgs_classification_maxfun": "is about lbfgs",
    "test_lbfgs_regression_maxfun": "is about lbfgs",
    "test_multioutput_regression": "needs the accuracy of lbfgs in 200 epochs; test_other_outputs has several outputs",
    "test_predict_proba_multilabel": "needs that of lbfgs in 200 epochs",
    "test_predict_proba_binary": "needs that of adam: scikit-learn's own classes fail it with solver='sgd', AUC 0.9856",
    "test_mlp_vs_poisson_glm_equivalent": "is about the Poisson loss, and uses lbfgs",
    "test_partial_fit_errors": "half of it is about lbfgs; test_classes_of_partial_fit and test_refusals have the rest",
}


def own_tests():
    """The test functions of scikit-learn's module, by name, about our classes."""
    found = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    if found is None:  # some distributions leave the tests out
        return {}
    lines = Path(found.origin).read_text().splitlines(keepends=True)
    for node in ast.parse("".join(lines)).body:
        if isinstance(node, ast.FunctionDef) and node.name in AS_SGD:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            for number in range(first - 1, node.end_lineno):
                line = lines[number].replace('["sgd", "adam", "lbfgs"]', '["sgd"]')
                lines[number] = line.replace('"lbfgs"', '"sgd"').replace('"adam"', '"sgd"')
    theirs = "from sklearn.neural_network import MLPClassifier, MLPRegressor\n"
    assert lines.count(theirs) == 1
    lines[lines.index(theirs)] = (
        "from nagd_numba.adapters.sklearn import NesterovMLPClassifier as MLPClassifier\n"
        "from nagd_numba.adapters.sklearn import NesterovMLPRegressor as MLPRegressor\n"
    )
    module = types.ModuleType("sklearn_test_mlp")
    exec(compile("".join(lines), found.origin, "exec"), module.__dict__)
    return {name: test for name, test in vars(module).items() if name.startswith("test_")}


OWN = own_tests()
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
globals().update({f"test_own_{name[5:]}": quiet(test) for name, test in OWN.items() if name not in EXCLUDED})


@pytest.mark.skipif(not OWN, reason="scikit-learn is installed without its tests")
def test_the_table_of_excluded_tests_is_right():
    assert set(EXCLUDED) <= set(OWN)
    assert set(AS_SGD) <= set(OWN)
    assert len(OWN) - len(EXCLUDED) > 25
