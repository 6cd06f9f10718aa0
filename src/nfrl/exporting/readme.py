"""README.md of an export: what the files are, what goes in and what comes out."""

from nfrl.exporting.functions import Function, Functions

_NEEDS = {
    "onnx": "pip install numpy onnxruntime",
    "numpy": "pip install numpy safetensors",
    "stablehlo": "pip install numpy jax flatbuffers",
}


def write(
    name: str, to: str, describes: str, functions: Functions, differences: dict[str, float]
) -> str:
    """Return the text.

    Args:
        name: What the algorithm is called.
        to: The format.
        describes: What the format's files are, in a sentence.
        functions: What was written.
        differences: The largest difference from the agent that was found, for each function.
    """
    act = functions.by_name["act"]
    goal = ", goal" if any(port.name == "goal" for port in act.inputs) else ""
    parts = [
        f"# A policy of {name}, as {to}",
        describes,
        *_use(to, goal),
        *(part for each in functions.by_name for part in _table(each, functions)),
    ]
    if functions.draws:
        said = ", ".join(
            f"`{each}` from {'N(0, 1)' if draw.distribution == 'normal' else 'U(0, 1)'}"
            for each, draw in functions.draws.items()
        )
        parts.append(
            f"Draw anew at each call: {said}. The same latents give the same action. Zeros, for "
            "normal latents, give an action near the middle of a mode."
        )
    if differences:
        largest = "\n".join(f"| {each} | {value:.2g} |" for each, value in differences.items())
        parts.append(
            "The files were compared with the agent on random inputs:\n\n"
            f"| function | largest difference |\n|---|---|\n{largest}"
        )
    return "\n\n".join(parts) + "\n"


def _use(to: str, goal: str) -> list[str]:
    if to not in _NEEDS:
        return []
    return [
        f"```sh\n{_NEEDS[to]}\n```",
        "```python\nfrom exported_policy import ExportedPolicy\n\n"
        f'policy = ExportedPolicy("this/folder")\naction = policy(observation{goal})\n'
        "policy.reset()  # the next episode\n```",
        "It remembers the latest observations and the chunk in hand, where the policy has them, "
        "and draws the random numbers. The functions below do neither.",
    ]


def _table(name: str, functions: Functions) -> list[str]:
    function: Function = functions.by_name[name]

    def row(what: str, shape: str, key: str) -> str:
        meaning = function.meaning["latent" if key.startswith("latent") else key]
        return f"| {what} | {shape} | {meaning} |"

    rows = [row(f"`{each.name}`", str(each.shape), each.name) for each in function.inputs]
    result = function.output
    shape = "()" if result != "action" else "see below"
    if result == "action":
        shape = "(rows, columns)" if "rows" in function.meaning["action"] else "(columns,)"
    return [
        f"## {name}",
        "| | shape, float32 | what it is |\n|---|---|---|\n"
        + "\n".join([*rows, row(f"returns `{result}`", shape, result)]),
    ]
