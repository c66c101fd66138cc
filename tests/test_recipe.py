import pytest

pytest.importorskip("keras", reason="needs the extra 'train'")

from ssd.recipe import read_recipe, recipe_names, recipe_to_toml
from ssd.run import Settings
from ssd.stages import Stage


def test_shipped_recipes():
    assert recipe_names() == ["bridge", "default-model", "hint", "paper", "scratch-bn", "small-data"]
    values, (stage,) = read_recipe("paper")
    assert values["batch_size"] == 32
    # 120,000 steps of 32 pictures, 16,551 pictures in VOC07+12.
    assert stage.epochs == round(120_000 * 32 / 16_551)
    assert (stage.optimizer, stage.learning_rate, stage.weight_decay) == ("sgd", 1e-3, 5e-4)
    _, (first, second) = read_recipe("bridge")
    assert (first.layers, first.learning_rate, first.decay) == ("bridge", 1e-4, 0.9)
    assert (second.layers, second.negative_ratio) == ("all", 2)
    values, _ = read_recipe("scratch-bn")
    assert (values["backbone"], values["backbone_weights"]) == ("vgg16_bn", "random")


@pytest.mark.parametrize("name", ["bridge", "default-model", "hint", "paper", "scratch-bn", "small-data"])
def test_round_trip(name, tmp_path):
    values, stages = read_recipe(name)
    values |= {"init": "default"} if name == "hint" else {}
    settings = Settings(("data",), ("a",), stages, **values)
    path = tmp_path / "again.toml"
    path.write_text(recipe_to_toml(settings))
    again, same = read_recipe(str(path))
    assert same == stages
    assert Settings(("data",), ("a",), same, init=settings.init, **again) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages = 3", r"a recipe must have \[\[stages\]\]"),
        ("a b", "a recipe must be TOML"),
        ("[[stages]]\nlayers = 'all'", "a stage must have epochs"),
        ("[[stages]]\nlayers = 'all'\nepochs = 1\nspeed = 3", r"Received: 'speed' in .*stage 1"),
        ("[[stages]]\nlayers = 'all'\nepochs = '1'", "epochs of a recipe must be a int. Received: '1'"),
        ("[[stages]]\nlayers = 'all'\nepochs = 1\nema = 2", r"stage 1: ema of a stage must be"),
        ("seed = 1\n[[stages]]\nlayers = 'all'\nepochs = 1", "a recipe may set batch_size, max_expand"),
        ("batch_size = true\n[[stages]]\nlayers = 'all'\nepochs = 1", "batch_size of a recipe must be a int"),
    ],
)
def test_what_is_wrong_is_named(text, message, tmp_path):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_recipe(str(tmp_path / "r.toml"))


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(
        ValueError,
        match=r"a TOML file or one of bridge, default-model, hint, paper, .*small-data. Received: 'fast'",
    ):
        read_recipe("fast")


def test_a_whole_number_may_stand_for_a_rate(tmp_path):
    (tmp_path / "r.toml").write_text("[[stages]]\nlayers = 'all'\nepochs = 1\nlearning_rate = 1")
    assert read_recipe(str(tmp_path / "r.toml"))[1] == (Stage("all", 1, 1.0),)
