"""Every prompt, raw output and answer of each language model, and of the predictors that use none."""


def predictor_keys(wildcards):
    """Registry entry of the predictor, if it is a language model."""
    return [f"llms.{wildcards.predictor}"] if wildcards.predictor in CONFIG.llms else []


def predictor_features(wildcards):
    """Image features, for the one predictor that reads no tokens."""
    needs = wildcards.predictor == "clip-prototype"
    return [f"{RESULTS}/embed_images/{CONFIG.samples['classification'].dataset}.safetensors"] if needs else []


rule evaluate_llm:
    message:
        "evaluate_llm: {wildcards.task} with {wildcards.tokenizer} tokens by {wildcards.predictor}"
    input:
        assets=lambda w: assets_of(*predictor_keys(w)),
        tokens=f"{RESULTS}/extract_tokens/{{tokenizer}}/{{task}}.parquet",
        vocabulary=rules.expand_vocabulary.output.vocabulary,
        entries=rules.filter_vocabulary.output.entries,
        manifest=lambda w: f"{RESULTS}/index_images/{CONFIG.samples[w.task].dataset}.parquet",
        features=predictor_features,
        code=stage_code("evaluate_llm"),
    output:
        predictions=f"{RESULTS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.parquet",
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
    log:
        f"{LOGS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.log",
    benchmark:
        f"{LOGS}/evaluate_llm/{{tokenizer}}/{{predictor}}/{{task}}.benchmark.tsv"
    wildcard_constraints:
        task="classification|restoration",
    threads: 8
    shell:
        stage_command(
            "evaluate_llm", ["tokens", "vocabulary", "entries", "manifest", "features"], ["predictions"]
        )
