"""Figures as PDF and PNG; results/figures/ always shows the active experiment."""

FIGURE_FORMATS = ("pdf", "png")
SHOWN_ANSWERS = FIGURES["captioning_vqa"].runs(CONFIG)
SHOWN_TOKENIZER = CONFIG.evaluate_llm.restoration.tokenizers[0]


rule make_figures_global_tokens:
    input:
        manifest=f"{RESULTS}/index_images/{CONFIG.samples['semantics'].dataset}.parquet",
        tokens=f"{RESULTS}/extract_tokens/{SHOWN_TOKENIZER}/semantics.parquet",
        words=f"{RESULTS}/train_tokenizer/{SHOWN_TOKENIZER}.words.parquet",
        code=code_of("make_figures", figure="global_tokens"),
    output:
        pdf=f"{RESULTS}/make_figures/global_tokens.pdf",
        png=f"{RESULTS}/make_figures/global_tokens.png",
    log:
        f"{LOGS}/make_figures/global_tokens.log",
    benchmark:
        f"{LOGS}/make_figures/global_tokens.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=slice_of("seed", "make_figures", figure="global_tokens"),
    message:
        "make_figures: global tokens of some images (paper figure 6)"
    shell:
        stage_command("make_figures", ["manifest", "tokens", "words", "code"], ["pdf", "png"])


rule make_figures_images:
    input:
        manifest=source_manifest,
        images=shown_images,
        code=code_of("make_figures"),
    output:
        pdf=f"{RESULTS}/make_figures/{{figure}}.pdf",
        png=f"{RESULTS}/make_figures/{{figure}}.png",
    log:
        f"{LOGS}/make_figures/{{figure}}.log",
    benchmark:
        f"{LOGS}/make_figures/{{figure}}.benchmark.tsv"
    wildcard_constraints:
        figure="reconstruction|restoration|masked",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=slice_of("seed", "make_figures", figure="{figure}"),
    message:
        "make_figures: {wildcards.figure}, side by side"
    shell:
        stage_command("make_figures", ["manifest", "images", "code"], ["pdf", "png"])


rule make_figures_captioning_vqa:
    input:
        manifests=[f"{RESULTS}/index_images/{dataset}.parquet" for dataset in selections.answered_datasets(CONFIG)],
        predictions=[
            f"{RESULTS}/evaluate_llm/{run.tokenizer}/{run.source.run}/{run.source.task}.parquet"
            for run in SHOWN_ANSWERS
        ],
        code=code_of("make_figures", figure="captioning_vqa"),
    output:
        pdf=f"{RESULTS}/make_figures/captioning_vqa.pdf",
        png=f"{RESULTS}/make_figures/captioning_vqa.png",
    log:
        f"{LOGS}/make_figures/captioning_vqa.log",
    benchmark:
        f"{LOGS}/make_figures/captioning_vqa.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=slice_of("seed", "make_figures", figure="captioning_vqa"),
    message:
        "make_figures: captions and answers (paper figure 5)"
    shell:
        stage_command("make_figures", ["manifests", "predictions", "code"], ["pdf", "png"])


rule make_figures_show:
    input:
        f"{RESULTS}/make_figures/{{figure}}.{{format}}",
    output:
        "results/figures/{figure}.{format}",
    log:
        f"{LOGS}/make_figures/{{figure}}.{{format}}.log",
    wildcard_constraints:
        format="|".join(FIGURE_FORMATS),
    conda:
        ENVIRONMENT
    threads: 1
    params:
        experiment=CONFIG.experiment,
    message:
        f"make_figures: show {{wildcards.figure}}.{{wildcards.format}} of experiment {CONFIG.experiment}"
    shell:
        "python -m v2l.pipeline.show_results {input:q} {output:q} 2> {log:q}"
