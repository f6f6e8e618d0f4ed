"""The page of a run, `report.html`: verdicts, launches, history, roofline, caches and conditions in one offline file.

    report.py      the report of a run, and what writes a page
    document.py    the file: the template, the styles, the scripts, plotly.js and the data, escaped
    rows.py        the rows of the table and what a reader does about the bad ones
    cells.py       what a run says of each cell, for its charts
    trends.py      the nights of each cell out of the history
    launches.py    the launches, their logs and the conditions under which they ran
    models.py      the roofline's points, and the caches of the engines
    machine.py     the device, the versions and the files of the run
    command.py     `hybrid-perf report`

`page.html` is the template. Tables are made here; the scripts filter them and draw a chart when its reader opens it.
"""
