"""One text embedding per vocabulary entry."""


rule embed_vocabulary:
    input:
        assets=assets_of(f"encoders.{CONFIG.encoder}"),
        vocabulary=rules.expand_vocabulary.output.vocabulary,
    output:
        embedding=f"{RESULTS}/embed_vocabulary/embedding.safetensors",
    log:
        f"{LOGS}/embed_vocabulary/embedding.log",
    benchmark:
        f"{LOGS}/embed_vocabulary/embedding.benchmark.tsv"
    conda:
        ENVIRONMENT
    threads: SITE.cores
    resources:
        **SHARDS,
    params:
        **params_of("embed_vocabulary", slice_of("encoder", f"encoders.{CONFIG.encoder}", "embed_vocabulary")),
    message:
        f"embed_vocabulary: text features of {CONFIG.encoder}"
    shell:
        stage_command("embed_vocabulary", ["vocabulary"], ["embedding"], machine=SHARDS)
