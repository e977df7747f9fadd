"""Subwords, bigrams and trigrams of the language model."""


rule expand_vocabulary:
    message:
        f"expand_vocabulary: words of {CONFIG.expand_vocabulary.llm}"
    input:
        assets=assets_of(f"llms.{CONFIG.expand_vocabulary.llm}"),
        code=stage_code("expand_vocabulary"),
    output:
        vocabulary=f"{RESULTS}/expand_vocabulary/vocabulary.parquet",
    params:
        config=slice_of("expand_vocabulary", f"llms.{CONFIG.expand_vocabulary.llm}"),
    log:
        f"{LOGS}/expand_vocabulary/vocabulary.log",
    benchmark:
        f"{LOGS}/expand_vocabulary/vocabulary.benchmark.tsv"
    threads: 8
    shell:
        stage_command("expand_vocabulary", [], ["vocabulary"])
