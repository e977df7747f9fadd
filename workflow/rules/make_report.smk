"""The report, of whatever is there: it starts nothing but what is out of date, and says what is missing."""

REPORTED = present_files(CONFIG, RESULTS)


rule make_report:
    input:
        **REPORTED,
        templates=template_files(),
    output:
        html=f"{RESULTS}/make_report/report.html",
    log:
        f"{LOGS}/make_report/report.log",
    benchmark:
        f"{LOGS}/make_report/report.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        **params_of(
            "make_report",
            slice_of(
                "experiment",
                "make_report",
                tables=" ".join(selections.tables(CONFIG)),
                figures=" ".join(selections.figures(CONFIG)),
                logs=LOGS,
            ),
        ),
    message:
        f"make_report: what experiment {CONFIG.experiment} has so far, as one page"
    shell:
        stage_command("make_report", [*REPORTED, "templates"], ["html"])


rule make_report_show:
    input:
        f"{RESULTS}/make_report/report.html",
    output:
        "results/report.html",
    log:
        f"{LOGS}/make_report/report.html.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        experiment=CONFIG.experiment,
    message:
        f"make_report: show the report of experiment {CONFIG.experiment}"
    shell:
        "python -m v2l.pipeline.show_results {input:q} {output:q} 2> {log:q}"
