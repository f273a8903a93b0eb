HANDLERS: dict[str, int]
GIVEN: dict[str, int]
REDUCTIONS: dict[str, int]

def speak(theirs: int) -> None: ...
