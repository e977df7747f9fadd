"""Tables as CSV, Markdown and LaTeX; results/table*.* always shows the active experiment."""

TABLE_FORMATS = ("csv", "md", "tex")


rule make_tables:
    input:
        metrics=table_scores("json"),
        per_item=table_scores("parquet"),
        published="config/published.csv",
        code=code_of("make_tables"),
    output:
        csv=f"{RESULTS}/make_tables/{{table}}.csv",
        markdown=f"{RESULTS}/make_tables/{{table}}.md",
        latex=f"{RESULTS}/make_tables/{{table}}.tex",
    log:
        f"{LOGS}/make_tables/{{table}}.log",
    benchmark:
        f"{LOGS}/make_tables/{{table}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=slice_of("experiment", "seed", "make_tables", "score_predictions.bootstrap_samples", table="{table}"),
    message:
        "make_tables: {wildcards.table}"
    shell:
        stage_command("make_tables", ["metrics", "per_item", "published", "code"], ["csv", "markdown", "latex"])


rule make_tables_show:
    input:
        f"{RESULTS}/make_tables/{{table}}.{{format}}",
    output:
        "results/{table}.{format}",
    log:
        f"{LOGS}/make_tables/{{table}}.{{format}}.log",
    wildcard_constraints:
        format="|".join(TABLE_FORMATS),
    conda:
        ENVIRONMENT
    threads: 1
    params:
        experiment=CONFIG.experiment,
    message:
        f"make_tables: show {{wildcards.table}}.{{wildcards.format}} of experiment {CONFIG.experiment}"
    shell:
        "cp {input:q} {output:q}.part 2> {log:q} && mv {output:q}.part {output:q}"
