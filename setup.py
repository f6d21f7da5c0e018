"""What pyproject.toml cannot say: the sweep files of `configs/` go into the wheel as `glue_mva/configs`."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies the sweep files beside the package's modules, unless the package is installed in place."""

    def run(self) -> None:
        super().run()
        for target, source in self._configs().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self._configs()]

    def get_output_mapping(self) -> dict[str, str]:
        return {**super().get_output_mapping(), **self._configs()}

    def _configs(self) -> dict[str, str]:
        """Path in the build -> path in the source tree."""
        if self.editable_mode:
            return {}
        target = Path(self.build_lib) / "glue_mva" / "configs"
        return {str(target / path.name): str(path) for path in sorted(Path("configs").glob("*.toml"))}


setup(cmdclass={"build_py": BuildWithConfigs})
