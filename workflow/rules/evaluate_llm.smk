"""Every prompt, raw output and answer of each language model, and of the predictors that use none."""


rule evaluate_llm:
    input:
        assets=lambda w: assets_of(*predictor_keys(w)),
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/{{task}}.parquet",
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        words=f"{RESULTS}/train_tokenizer/{{tokenizer}}.words.parquet",
        manifest=lambda w: f"{RESULTS}/index_images/{sample_dataset(w)}.parquet",
        features=predictor_features,
        code=stage_code("evaluate_llm"),
    output:
        predictions=f"{RESULTS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.parquet",
    log:
        f"{LOGS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.log",
    benchmark:
        f"{LOGS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.benchmark.tsv"
    wildcard_constraints:
        task="classification|restoration",
    conda:
        ENVIRONMENT
    threads: lambda w: 8 if w.predictor in CONFIG.llms else 1
    resources:
        **SITE.predictor(),
    params:
        config=lambda w: slice_of(
            "seed",
            "evaluate_llm.protocol",
            "evaluate_llm.{task}",
            "samples.{task}",
            *predictor_keys(w),
            tokenizer="{tokenizer}",
            predictor="{predictor}",
            task="{task}",
        )(w),
    message:
        "evaluate_llm: {wildcards.task} with {wildcards.tokenizer} tokens by {wildcards.predictor}"
        " ({resources.gpu} GPUs, {resources.mem_mb} MB)"
    shell:
        stage_command("evaluate_llm", ["tokens", "vocabulary", "words", "manifest", "features"], ["predictions"])
