"""Figures as PDF and PNG; results/figures/ always shows the active experiment."""

FIGURE_FORMATS = ("pdf", "png")
REPORTED = {  # how `snakemake --report` shows them
    "caption": "../report/figure.rst",
    "category": "Figures",
    "labels": {"figure": "{figure}", "format": "{format}"},
}


rule make_figures:
    input:
        **{name: figure_inputs(name) for name in figure_files.NAMES},
        style="v2l/figures/v2l.mplstyle",
        code=code_of("make_figures"),
    output:
        pdf=f"{RESULTS}/make_figures/{{figure}}.pdf",
        png=f"{RESULTS}/make_figures/{{figure}}.png",
    log:
        f"{LOGS}/make_figures/{{figure}}.log",
    benchmark:
        f"{LOGS}/make_figures/{{figure}}.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=slice_of("seed", "make_figures", figure="{figure}"),
    message:
        "make_figures: {wildcards.figure}"
    shell:
        stage_command("make_figures", [*figure_files.NAMES, "style", "code"], ["pdf", "png"])


rule make_figures_show:
    input:
        f"{RESULTS}/make_figures/{{figure}}.{{format}}",
    output:
        report("results/figures/{figure}.{format}", **REPORTED),
    log:
        f"{LOGS}/make_figures/{{figure}}.{{format}}.log",
    wildcard_constraints:
        format="|".join(FIGURE_FORMATS),
    conda:
        ENVIRONMENT
    threads: 1
    params:
        experiment=CONFIG.experiment,
        caption=lambda wildcards: FIGURES[wildcards.figure].caption,
    message:
        f"make_figures: show {{wildcards.figure}}.{{wildcards.format}} of experiment {CONFIG.experiment}"
    shell:
        "cp {input:q} {output:q}.part 2> {log:q} && mv {output:q}.part {output:q}"
