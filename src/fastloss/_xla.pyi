HANDLERS: dict[str, int]
GIVEN: dict[str, int]
REDUCTIONS: dict[str, int]

def claim(minor: int) -> None: ...
