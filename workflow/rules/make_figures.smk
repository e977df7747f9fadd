"""Figures as PDF and PNG; results/figures/ always shows the active experiment."""

FIGURE_FORMATS = ("pdf", "png")
SHOWN_TOKENIZER = CONFIG.evaluate_llm.restoration.tokenizers[0]
SHOWN_SOURCES = stages.shown_sources(CONFIG)


def images_of(sources):
    """Files of decoded images."""
    return [f"{RESULTS}/reconstruct_images/{source}.parquet" for source in sources]


rule make_figures_global_tokens:
    message:
        "make_figures: global tokens of some images (paper figure 6)"
    input:
        manifest=f"{RESULTS}/index_images/{CONFIG.samples['semantics'].dataset}.parquet",
        tokens=f"{RESULTS}/extract_tokens/{SHOWN_TOKENIZER}/semantics.parquet",
        entries=rules.filter_vocabulary.output.entries,
        code=stage_code("make_figures"),
    output:
        pdf=f"{RESULTS}/make_figures/global_tokens.pdf",
        png=f"{RESULTS}/make_figures/global_tokens.png",
    params:
        config=slice_of("seed", "make_figures", figure="global_tokens"),
    log:
        f"{LOGS}/make_figures/global_tokens.log",
    benchmark:
        f"{LOGS}/make_figures/global_tokens.benchmark.tsv"
    threads: 1
    shell:
        stage_command("make_figures", ["manifest", "tokens", "entries"], ["pdf", "png"])


rule make_figures_images:
    message:
        "make_figures: {wildcards.figure}, side by side"
    input:
        manifest=lambda w: f"{RESULTS}/index_images/{CONFIG.samples[w.figure].dataset}.parquet",
        images=lambda w: images_of(SHOWN_SOURCES[w.figure]),
        code=stage_code("make_figures"),
    output:
        pdf=f"{RESULTS}/make_figures/{{figure}}.pdf",
        png=f"{RESULTS}/make_figures/{{figure}}.png",
    params:
        config=slice_of("seed", "make_figures", figure="{figure}"),
    log:
        f"{LOGS}/make_figures/{{figure}}.log",
    benchmark:
        f"{LOGS}/make_figures/{{figure}}.benchmark.tsv"
    wildcard_constraints:
        figure="reconstruction|restoration",
    threads: 1
    shell:
        stage_command("make_figures", ["manifest", "images"], ["pdf", "png"])


rule make_figures_show:
    message:
        f"make_figures: show {{wildcards.figure}}.{{wildcards.format}} of experiment {CONFIG.experiment}"
    input:
        f"{RESULTS}/make_figures/{{figure}}.{{format}}",
    output:
        "results/figures/{figure}.{format}",
    params:
        experiment=CONFIG.experiment,
    log:
        f"{LOGS}/make_figures/{{figure}}.{{format}}.log",
    wildcard_constraints:
        format="|".join(FIGURE_FORMATS),
    threads: 1
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
