"""The one exception that users meet, and the exit status that asks for another start."""

INTERRUPTED = 75  # exit status (EX_TEMPFAIL): stopped with a checkpoint, start again to go on


class UserError(Exception):
    """A problem the user can mend: what is wrong (naming the key or file), what was expected, the way out.

    Stages print it in one line, without a traceback, and exit with status 1.
    """

    def __init__(self, problem: str, expected: str, remedy: str):
        self.problem, self.expected, self.remedy = problem, expected, remedy
        stop = "" if problem.endswith("\n") else ". "
        super().__init__(f"{problem}{stop}Expected: {expected}. What to do: {remedy}.")
