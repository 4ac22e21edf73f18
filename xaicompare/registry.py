"""Names of methods, metrics, models and data sets; other packages add theirs by entry points."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from xaicompare.core import Method, Metric
from xaicompare.errors import SettingError, UnknownNameError, XaiCompareError, unknown
from xaicompare.titles import called

T = TypeVar("T")
Made = TypeVar("Made", bound=Callable[..., object])


class Registry(Generic[T]):
    """What a name in a call, a study file or a command line stands for.

    Another package adds an entry in its pyproject.toml, under `[project.entry-points."xaicompare.methods"]` (or
    `.metrics`, `.models`, `.datasets`): `my_method = "my_package.module:MyMethod"`.
    """

    def __init__(self, noun: str, called: Callable[[str], str | None] = lambda _: None) -> None:
        self.noun = noun
        self._called = called  # the name here of what people write so
        self._makers: dict[str, Callable[..., T]] = {}
        self._families: dict[str, Callable[[str], Callable[..., T]]] = {}
        self._looked_outside = False

    def add(self, name: str, maker: Made) -> Made:
        """Gives a class or function its name; a name that is taken is an error."""
        if self._makers.get(name, maker) is not maker:
            raise XaiCompareError(f"{self.noun} {name!r} is registered twice; expected one owner for each name.")
        self._makers[name] = maker  # type: ignore[assignment]
        return maker

    def add_family(self, prefix: str, finder: Callable[[str], Callable[..., T]]) -> None:
        """Gives a prefix its meaning: `prefix:rest` stands for what `finder(rest)` returns, or it raises."""
        self._families[prefix] = finder

    def names(self) -> list[str]:
        """All known names, in the order in which they were added; what families know is not listed."""
        self._look_outside()
        return list(self._makers)

    def __getitem__(self, name: str) -> Callable[..., T]:
        self._look_outside()
        prefix, colon, rest = name.partition(":")
        if colon and prefix in self._families:
            return self._families[prefix](rest)
        if name not in self._makers:
            raise self.unknown(name)
        return self._makers[name]

    def unknown(self, name: object) -> UnknownNameError:
        """The error for a name that stands for nothing; where people call something here so, with its name."""
        here = self._called(str(name))
        if here in self._makers:
            return UnknownNameError(f"{self.noun} {name!r} is called {here!r} here; expected that name.")
        return unknown(self.noun, name, [*self.names(), *(f"{prefix}:..." for prefix in self._families)])

    def build(self, given: str | T, **settings: Any) -> T:
        """What a name and its settings stand for; an object is taken as it is.

        Raises:
            UnknownNameError: no such name or setting.
            SettingError: settings beside an object, or out of range.
        """
        if isinstance(given, str):
            return self[given](**settings)
        if isinstance(given, type):
            return given(**settings)
        if settings:
            raise SettingError(f"settings {sorted(settings)} beside {given!r}; expected a name, or no settings.")
        return given

    def __contains__(self, name: object) -> bool:
        return name in self.names() or str(name).partition(":")[0] in self._families

    def _look_outside(self) -> None:
        if not self._looked_outside:
            self._looked_outside = True
            for point in entry_points(group=f"xaicompare.{self.noun}s"):
                self.add(point.name, point.load())

    def __repr__(self) -> str:
        return f"<{len(self.names())} {self.noun}s: {', '.join(self.names())}>"


METHODS: Registry[Method] = Registry("method", called)
METRICS: Registry[Metric] = Registry("metric")
MODELS: Registry[object] = Registry("model")
DATASETS: Registry[object] = Registry("dataset")


def without_masks() -> list[str]:
    """The metrics that need no masks of objects, so that they fit any images."""
    return [name for name in METRICS.names() if not METRICS.build(name).traits.masks]


def method(cls: type[Method]) -> type[Method]:
    """Class decorator: registers a method under its name."""
    return METHODS.add(cls.name, cls)


def metric(cls: type[Metric]) -> type[Metric]:
    """Class decorator: registers a metric under its name."""
    return METRICS.add(cls.name, cls)
