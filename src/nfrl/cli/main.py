"""The command ``nfrl``: finds the subcommand, and turns errors into one line."""

import importlib
import sys
from collections.abc import Sequence

from nfrl.cli.compiled import keep_compiled_programs
from nfrl.errors import UserError, package_of, unknown_name

COMMANDS = {
    "demo": "make data, train NF-GCBC and its Gaussian twin, evaluate, show the comparison",
    "tasks": "list the tasks, their data, and the paper's scores",
    "data": "make data (data make NAME), say what a file holds (data check), join many (data join)",
    "collect": "train a locomotion expert that maze data are made with (collect expert NAME)",
    "train": "train an agent on a task, evaluate it, record the result",
    "suite": "work through many runs, here or on a cluster: suite run NAME, suite status NAME",
    "tune": "search for an agent's values within a budget of updates",
    "resume": "go on with a run that was interrupted",
    "eval": "evaluate a run's agent again",
    "play": "watch a policy act, in a window or as a video",
    "export": "write a policy for programs without nfrl: ONNX, StableHLO, NumPy",
    "push": "share a policy on the Hugging Face hub, with a model card",
    "report": "tables, figures and one HTML page from runs or records",
    "bench": "measure speed; hold agents against known densities",
}
EXTRA_OF = {
    "ogbench": "ogbench",
    "mujoco": "ogbench",
    "gymnasium": "ogbench",
    "matplotlib": "ogbench",
    "imageio": "ogbench",
    "gym_pusht": "imitation",
    "pymunk": "imitation",
    "gymnasium_robotics": "imitation",
    "brax": "online",
    **dict.fromkeys(("av", "PIL"), "video"),
    **dict.fromkeys(("onnx", "onnxruntime", "flatbuffers"), "export"),
    "huggingface_hub": "hub",
    **dict.fromkeys(("ray", "submitit"), "cluster"),
    "optuna": "tune",
    **dict.fromkeys(("wandb", "tensorboardX", "mlflow"), "track"),
}
"""The extra that brings a package which `pip install nfrl` alone does not."""
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit status.

    Args:
        arguments: The words after ``nfrl``; by default the process's own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        from nfrl import __version__

        print(f"nfrl {__version__}")
        return 0
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        keep_compiled_programs()
        # Each command imports what it needs when it is called, so that help is instant.
        importlib.import_module(f"nfrl.cli.{name}").run(rest)
    except UserError as error:
        print(f"nfrl: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        extra = EXTRA_OF.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"nfrl: nfrl {name} needs the package {package_of(error.name or '')}: "
            f"pip install 'nfrl[{extra}]'",
            file=sys.stderr,
        )
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (nfrl tasks | head).
        sys.stderr.close()
        return 0
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "nfrl: normalizing flows for reinforcement learning",
            "",
            "usage: nfrl COMMAND ...        (nfrl COMMAND --help says more)",
            "",
            *lines,
            "",
            "for example:",
            "  nfrl train nf-gcbc cube-single-play-v0 --seeds 0 1 2",
            "  nfrl report runs/",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
