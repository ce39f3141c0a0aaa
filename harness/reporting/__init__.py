"""Tables, figures, HTML and Markdown from what an analysis found.

claim_figures.py    Tables and figures that several experiments show
claims.py           The claims of one run with their verdicts, as a file next to its report
comparison.py       A comparison of two runs as text for a terminal or a CI log
document.py         The report before it is laid out
figures.py          A Figure to files: SVG, PNG and the CSV of its data
html.py             The report as two self-contained pages: the story and the evidence
layer_text.py       The table of layers that harness profile and harness predict TARGET print
literature_tables.py The tables over all claims of the literature
markdown.py         The report as Markdown, with links to the PNGs next to it
methods.py          The report's methods and limits
output_files.py     Puts a report's files in place of the earlier report's
parallel.py         Runs the parts of a report in processes
plan_text.py        Text of harness plan
profile_text.py     Text and files of harness profile
progress.py         Shows a sweep as it goes
report.py           Records in a folder to a report in the same folder
report_text.py      A step's report on a terminal: the answer first, then where the bytes are
step_page.py        A step's report as a page: answers, timeline, layers, largest blocks
summary.py          Claims and verdicts on a terminal
tables.py           Tables: raw numbers as CSV, numbers with units for people
terminal.py         Text of commands on a terminal
trace_exports.py    A trace in other people's formats
"""
