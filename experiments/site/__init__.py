"""The docs site: pages of docs/, theory and the registries, put together for the site generator."""
