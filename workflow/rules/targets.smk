"""What users ask for."""


localrules:
    fetch_assets,
    index_images_rejected,
    make_tables_show,
    make_figures_show,
    all,
    all_tables,
    all_figures,


rule all_tables:
    input:
        expand("results/{table}.{format}", table=stages.TABLES, format=TABLE_FORMATS),
        rules.index_images_rejected.output,


rule all_figures:
    input:
        expand("results/figures/{figure}.{format}", figure=stages.FIGURES, format=FIGURE_FORMATS),


rule all:
    default_target: True
    input:
        rules.all_tables.input,
        rules.all_figures.input,
