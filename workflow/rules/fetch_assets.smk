"""Verified weights and data, once, on a machine with a network."""


rule fetch_assets:
    input:
        expand("assets/{asset}/asset.json", asset=CONFIG.fetch_assets.assets),


rule fetch_assets_one:
    input:
        lock=ancient(str(required_files.LOCK)),  # its other entries are none of an asset's business
    output:
        record="assets/{asset}/asset.json",
    log:
        "logs/fetch_assets/{asset}.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=slice_of(asset="{asset}"),
        modules=lambda wildcards, output: ["v2l.fetch_assets"],  # in the record; no edit costs a download
        entry=lambda w: required_files.lock_entry(w.asset),
    message:
        "fetch_assets: download and verify {wildcards.asset}"
    shell:
        stage_command("fetch_assets", ["lock"], ["record"])
