vcl 4.1;

# Varnish with its built-in rules, which its guide says to begin with, and in its default storage, memory.

backend origin {
    .host = "{{origin-host}}";
    .port = "{{origin-port}}";
}
