"""Tables as CSV, Markdown and LaTeX; results/table*.* always shows the active experiment."""

TABLE_FORMATS = ("csv", "md", "tex")


rule make_tables:
    message:
        "make_tables: {wildcards.table}"
    input:
        metrics=lambda w: [
            f"{RESULTS}/score_predictions/{source}.json" for source in stages.score_sources(CONFIG, w.table)
        ],
        published="config/published.csv",
        code=stage_code("make_tables"),
    output:
        csv=f"{RESULTS}/make_tables/{{table}}.csv",
        markdown=f"{RESULTS}/make_tables/{{table}}.md",
        latex=f"{RESULTS}/make_tables/{{table}}.tex",
    params:
        config=slice_of("experiment", "make_tables", table="{table}"),
    log:
        f"{LOGS}/make_tables/{{table}}.log",
    benchmark:
        f"{LOGS}/make_tables/{{table}}.benchmark.tsv"
    threads: 1
    shell:
        stage_command("make_tables", ["metrics", "published"], ["csv", "markdown", "latex"])


rule make_tables_show:
    message:
        f"make_tables: show {{wildcards.table}}.{{wildcards.format}} of experiment {CONFIG.experiment}"
    input:
        f"{RESULTS}/make_tables/{{table}}.{{format}}",
    output:
        "results/{table}.{format}",
    params:
        experiment=CONFIG.experiment,
    log:
        f"{LOGS}/make_tables/{{table}}.{{format}}.log",
    wildcard_constraints:
        format="|".join(TABLE_FORMATS),
    threads: 1
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
