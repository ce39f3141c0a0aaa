"""Tables, figures, HTML and Markdown from what an analysis found.

claim_figures.py    The figure that several experiments show
claims.py           The claims of one run with their verdicts, as a file next to its report
comparison.py       Two runs, or two predictions, compared: as text for a terminal or a CI log
data_package.py     datapackage.json: the files of a run and the meaning of its columns
dictionary.py       The data dictionary: name, type, unit and meaning of every column
document.py         The report before it is laid out
figures.py          A Figure to files: SVG, PNG and the CSV of its data
pages.py            The report as self-contained pages and as Markdown
progress.py         Shows a sweep as it goes
report.py           Records in a folder to a report in the same folder
step_page.py        A step's report as a page: answers, timeline, layers, largest blocks
step_text.py        A step on a terminal: the answer first, then where the bytes are
summary.py          Claims and verdicts on a terminal
tables.py           Tables: raw numbers as CSV, numbers with units for people
terminal.py         Text of commands on a terminal
terminal_console.py A console that prints text from outside as data
trace_exports.py    A trace in the format of PyTorch's memory viewer
verify.py           Checks of a run: its files, its records, its report, its commit and code
verify_again.py     Random cells of a run, measured again and compared with its records
"""
