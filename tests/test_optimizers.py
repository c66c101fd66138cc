import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.model import build_model  # noqa: E402
from ssd.optimizers import (  # noqa: E402
    averaged,
    has_converged,
    keep_averages,
    learning_rate,
    make_optimizer,
    plateau_rate,
    variable_factors,
)
from ssd.spec import SPECS  # noqa: E402
from ssd.stages import Stage  # noqa: E402


@pytest.fixture
def dense():
    """One dense layer of a known start: kernel 2 and 4, bias 1."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="fc")])
    model.set_weights([np.array([[2.0], [4.0]], np.float32), np.array([1.0], np.float32)])
    return model


def test_layers_inside_an_extractor_learn_as_it_does():
    model = build_model(SPECS["ssd300"], 1, "inception_v3")
    found = variable_factors(model, {"extractor": 0.3, "fc6": 0.1})
    paths = {v.path for v in model.get_layer("extractor").weights}
    assert {path for path, factor in found.items() if factor == 0.3} == paths
    assert len(paths) == 26 * 4  # a kernel and three numbers of a normalisation for 26 convolutions
    assert found["fc6/kernel"] == 0.1


def step(model, optimizer, gradients):
    variables = model.trainable_variables
    optimizer.build(variables)
    optimizer.apply([keras.ops.convert_to_tensor(np.float32(g)) for g in gradients], variables)


def test_sgd_is_caffes_solver(dense):
    # V = 0.9 V + lr (g + decay W); W -= V. Biases have no decay.
    stage = Stage("all", 1, 0.1, optimizer="sgd", schedule="constant", weight_decay=0.5, clip_norm=0)
    optimizer = make_optimizer(stage, 10, {})
    w, b, v, u = np.array([[2.0], [4.0]]), 1.0, 0.0, 0.0
    for g in (1.0, -2.0, 0.5):
        step(dense, optimizer, [np.full((2, 1), g), [g]])
        v = 0.9 * v + 0.1 * (g + 0.5 * w)
        u = 0.9 * u + 0.1 * g
        w, b = w - v, b - u
    kernel, bias = dense.get_weights()
    assert np.allclose(kernel, w, atol=1e-6)
    assert np.allclose(bias, b, atol=1e-6)


def test_adamw_decays_kernels_alone_and_apart_from_the_gradient(dense):
    stage = Stage("all", 1, 0.1, schedule="constant", weight_decay=0.5)
    step(dense, make_optimizer(stage, 10, {}), [np.zeros((2, 1)), [0.0]])
    kernel, bias = dense.get_weights()
    assert np.allclose(kernel, [[2 * 0.95], [4 * 0.95]])  # W (1 - lr * decay)
    assert bias == [1.0]


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_layer_may_learn_more_slowly(dense, name):
    stage = Stage("all", 1, 0.1, optimizer=name, schedule="constant", weight_decay=0, clip_norm=0)
    optimizer = make_optimizer(stage, 10, variable_factors(dense, {"fc": 0.25}))
    step(dense, optimizer, [np.ones((2, 1)), [1.0]])
    # The first step of Adam is the learning rate itself, that of SGD rate times gradient.
    assert np.allclose(dense.get_weights()[0], [[2 - 0.025], [4 - 0.025]], atol=1e-5)


def test_gradients_are_clipped_together(dense):
    stage = Stage("all", 1, 1.0, optimizer="sgd", schedule="constant", weight_decay=0, clip_norm=1.0)
    step(dense, make_optimizer(stage, 10, {}), [np.array([[2.0], [1.0]]), [2.0]])  # norm 3
    kernel, bias = dense.get_weights()
    assert np.allclose(kernel, [[2 - 2 / 3], [4 - 1 / 3]])
    assert np.allclose(bias, [1 - 2 / 3])


def rates(stage, steps):
    schedule = learning_rate(stage, steps)
    return [float(schedule(keras.ops.convert_to_tensor(i))) for i in range(steps)]


def test_multistep_drops_tenfold_after_its_shares():
    # 120 steps, dropped after 80 and 100, as the original after 80k and 100k of 120k.
    found = rates(Stage("all", 1, 1e-3, schedule="multistep"), 120)
    assert found[:80] == pytest.approx([1e-3] * 80)
    assert found[80:100] == pytest.approx([1e-4] * 20)
    assert found[100:] == pytest.approx([1e-5] * 20)


def test_exponential_falls_after_each_epoch():
    found = rates(Stage("all", 3, 1e-4, schedule="exponential", decay=0.9), 30)
    assert found == pytest.approx([1e-4] * 10 + [0.9e-4] * 10 + [0.81e-4] * 10)


def test_cosine_rises_then_falls_to_a_hundredth():
    found = rates(Stage("all", 1, 1.0, warm_up=0.1), 100)
    assert found[0] == pytest.approx(0.05)
    assert max(found) == found[10] == pytest.approx(1)
    assert found[55] == pytest.approx((1 + 0.01) / 2, abs=0.01)
    assert found[-1] == pytest.approx(0.01, abs=0.002)


def test_plateau_rate_by_hand():
    stage = Stage("all", 9, 1.0, schedule="plateau", plateau=2)
    losses = [5, 4, 4, 4.5, 3, 3, 3, 3, 3]
    # Two epochs without a lower loss end after the 4th, the 7th and the 9th.
    wanted = [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]
    assert [plateau_rate(stage, losses[:n]) for n in range(10)] == pytest.approx(wanted)


def test_convergence_by_hand():
    stage = Stage("all", 9, patience=2)
    maps = [0.1, 0.3, 0.2, 0.3]
    assert [has_converged(stage, maps[:n]) for n in range(5)] == [False, False, False, False, True]
    assert not has_converged(stage, [0.1, 0.3, 0.2, 0.31])
    assert not has_converged(Stage("all", 9), [0.3] * 9)


def test_averaged_weights_are_put_in_and_out_again(dense):
    stage = Stage("all", 1, 1.0, optimizer="sgd", schedule="constant", weight_decay=0, clip_norm=0, ema=0.5)
    optimizer = make_optimizer(stage, 10, {})
    step(dense, optimizer, [np.zeros((2, 1)), [1.0]])  # bias 0: the first step starts the average
    step(dense, optimizer, [np.zeros((2, 1)), [1.0]])  # momentum: 0 - 1.9
    assert dense.get_weights()[1] == pytest.approx([-1.9])
    with averaged(optimizer):
        assert dense.get_weights()[1] == pytest.approx([(0 - 1.9) / 2])
    assert dense.get_weights()[1] == pytest.approx([-1.9])
    with averaged(make_optimizer(Stage("all", 1), 10, {})):
        assert dense.get_weights()[1] == pytest.approx([-1.9])


@pytest.mark.parametrize(("ema", "expected"), [(0.0, 0.25 * 1 - 0.75 * 1.9), (0.5, 0.25 * 1 - 0.75 * 0.95)])
def test_weights_that_a_stage_began_with_are_mixed_in(dense, ema, expected):
    plain = {"optimizer": "sgd", "schedule": "constant", "weight_decay": 0, "clip_norm": 0}
    optimizer = make_optimizer(Stage("all", 1, 1.0, ema=ema, start_share=0.25, **plain), 10, {})
    optimizer.build(dense.trainable_variables)  # the bias is 1
    for _ in range(2):  # 0, then -1.9, as above
        step(dense, optimizer, [np.zeros((2, 1)), [1.0]])
    with averaged(optimizer):
        assert dense.get_weights()[1] == pytest.approx([expected])
    assert dense.get_weights()[1] == pytest.approx([-1.9])
    # An optimiser that goes on begins with other weights, and gets the first ones back with its state.
    again = make_optimizer(Stage("all", 1, 1.0, ema=ema, start_share=0.25, **plain), 10, {})
    again.build(dense.trainable_variables)
    for variable, stored in zip(again.variables, optimizer.variables, strict=True):
        variable.assign(np.array(stored))
    keep_averages(again)
    assert dense.get_weights()[1] == pytest.approx([expected])


def test_fit_goes_on_from_the_weights_and_not_from_their_averages(dense):
    # Keras itself puts the averages in at the end of every `fit`.
    stage = Stage("all", 1, 0.1, optimizer="sgd", schedule="constant", weight_decay=0, clip_norm=0, ema=0.9)
    optimizer = make_optimizer(stage, 10, {})
    dense.compile(optimizer, loss="mse")
    x, y = np.zeros((1, 2), np.float32), np.zeros((1, 1), np.float32)
    dense.fit(x, y, epochs=1, verbose=0)  # the gradient of the bias is 2 b: 1 - 0.2
    dense.fit(x, y, epochs=1, verbose=0)  # velocity -0.18 - 0.16
    assert dense.get_weights()[1] == pytest.approx([0.8 - 0.34])
    keep_averages(optimizer)
    assert dense.get_weights()[1] == pytest.approx([0.9 * 0.8 + 0.1 * 0.46])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs of a stage must be 1 or more. Received: 0"),
        ({"optimizer": "lion"}, "optimizer of a stage must be one of adamw, adam, sgd. Received: 'lion'"),
        ({"schedule": "steps"}, "schedule of a stage must be one of cosine, "),
        ({"drops": (0.5, 1.5)}, "drops of a stage must be shares between 0 and 1"),
        ({"ema": 1}, "ema of a stage must be 0 to below 1"),
    ],
)
def test_wrong_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Stage(**({"layers": "all", "epochs": 1} | options))
