import pytest

from keypoint_detection.registry import Registry, nearest_name


@pytest.fixture
def registry():
    registry = Registry("shape")

    @registry.register("circle")
    def make_circle(radius):
        return ("circle", radius)

    @registry.register("Box")
    def make_box():
        return "box"

    return registry


def test_a_registered_builder_is_found_and_unchanged(registry):
    assert registry["circle"](3) == ("circle", 3)
    assert registry.names() == ["Box", "circle"]


def test_registering_returns_the_builder(registry):
    def builder():
        return 1

    assert registry.register("one")(builder) is builder
    assert registry["one"] is builder


def test_a_name_taken_twice(registry):
    with pytest.raises(ValueError, match="shape 'circle' is registered twice"):
        registry.register("circle")(lambda: None)
    assert registry["circle"](1) == ("circle", 1)


def test_an_unknown_name_lists_the_names_and_the_nearest(registry):
    with pytest.raises(ValueError) as caught:
        registry["cirle"]
    message = str(caught.value)
    assert message.startswith("unknown shape 'cirle'; known: Box, circle.")
    assert message.endswith("Did you mean 'circle'?")
    assert "\n" not in message


def test_two_registries_share_nothing(registry):
    with pytest.raises(ValueError, match="unknown colour"):
        Registry("colour")["circle"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unet", " Did you mean 'Unet'?"),
        ("ConvNextUnet", " Did you mean 'ConvNeXtUnet'?"),
        ("zzzz", ""),
        ("", ""),
    ],
)
def test_nearest_name(name, expected):
    assert nearest_name(name, ["Unet", "ConvNeXtUnet"]) == expected


def test_nearest_name_of_nothing():
    assert nearest_name("a", []) == ""
