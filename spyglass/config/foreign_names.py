"""What other servers call our settings: gunicorn, uWSGI, uvicorn, granian, waitress,
and systemd's units.

Only read when an unknown setting has been found. The names are in lower case, with
underscores for dashes. tests/unit/test_guides.py holds docs/guides/from-gunicorn.md,
from-uvicorn.md and from-uwsgi.md to this table.
"""

from __future__ import annotations

# A setting, or a setting with its value, and the names for it.
_OURS = {
    "app": "wsgi_app module wsgi_file wsgi asgi_app callable file call pymodule application",
    "directory": "chdir chdir2 cd app_dir working_dir workdir cwd root workingdirectory",
    "interface": "asgi asgi_version",
    "venv": "virtualenv home pyhome python_path_home",
    "workers": "processes worker_processes num_workers numprocs web_concurrency",
    "threads": "blocking_threads runtime_blocking_threads worker_threads",
    "preload": "preload_app",
    "preload = false": "lazy_apps lazy",
    "idle_timeout": "idle die_on_idle cheap",
    "request_timeout": "timeout harakiri http_timeout worker_timeout runtimemaxsec timeout_request",
    "graceful_timeout": "reload_mercy worker_reload_mercy timeout_graceful_shutdown "
    "workers_kill_timeout timeoutstopsec",
    "start_timeout": "startup_timeout timeoutstartsec",
    "header_timeout": "http1_header_read_timeout",
    "body_timeout": "socket_timeout",
    "keepalive_timeout": "keepalive http_keepalive so_keepalive timeout_keep_alive "
    "http1_keep_alive channel_timeout keep_alive",
    "max_head": "limit_request_line limit_request_field_size buffer_size "
    "h11_max_incomplete_event_size http1_buffer_size max_request_header_size",
    "max_fields": "limit_request_fields",
    "max_body": "limit_post max_request_body_size client_max_body_size max_content_length",
    "body_memory": "post_buffering post_buffering_bufsize inbuf_overflow",
    "websocket_max_size": "websocket_max_message_size ws_max_size",
    "websocket_ping": "ws_ping_interval websocket_ping_interval",
    "websocket_compression": "ws_per_message_deflate",
    "max_connections": "worker_connections limit_concurrency backpressure connection_limit "
    "http1_max_connections",
    "max_requests": "limit_max_requests",
    "max_memory": "reload_on_rss evil_reload_on_rss reload_on_as evil_reload_on_as workers_max_rss",
    "trusted_proxies": "forwarded_allow_ips proxy_allow_ips proxy_headers trusted_proxy",
    "forwarded_headers": "forwarder_headers secure_scheme_headers trusted_proxy_headers url_scheme",
    "script_name": "root_path mount manage_script_name url_prefix url_path_prefix "
    "force_script_name application_root",
    "log_slow": "log_slow_requests slowlog slow_log request_slowlog_timeout",
    "access_log": "accesslog access_log_format access_logfile log_format access_log_fmt "
    "access_logformat",
    "log_level": "loglevel",
    "debug": "expose_tracebacks",
    "listen": "bind http_socket socket http host port uds fd address ipv4 ipv6 unix_socket "
    "unix_socket_perms uds_permissions chmod_socket chown_socket http_to https_to listenstream "
    "sockets socketgroup socketmode",
    "user": "uid run_as",
    "group": "gid",
    "environment": "env raw_env setenv",
    "environment_file": "env_file env_files environmentfile envfile dotenv",
    "credentials": "secrets loadcredential",
    "memory_high": "memoryhigh",
    "memory_max": "limit_as cgroup memorymax memory_limit memorylimit",
    "cpu_quota": "cpuquota",
    "writable": "readwritepaths read_write_paths writeable",
    "network = false": "privatenetwork",
}
_PROXY = "a web server in front does TLS, HTTP/2 and HTTP/3 (docs: guides)"
_SYSTEMD = "systemd does this: change it with 'systemctl edit spyglass@NAME'"
_JOURNAL = "the journal has what app and server print; 'journalctl -u spyglass@NAME' shows it"
_ALWAYS = "it needs no setting, because it is always so"
_BACKLOG = "the queue is as long as the kernel allows (sysctl net.core.somaxconn)"
_RELOAD = "run 'spyglass reload NAME' after a change"
_MIDDLEWARE = "wrap the app in a WSGI middleware"
_STATS = "'spyglass status NAME' and the access log have figures"
_STRICT = "a request that RFC 9112 calls wrong is always refused"
_NOT_HERE = "there is no such thing here; run it as a service of its own"

# Why there is no such setting, and the names.
_NONE = {
    "it is the command line that names a file: --config FILE": "config ini yaml json xml "
    "for_readline",
    "there is one kind of worker; `threads` says how many calls it runs at a time": (
        "worker_class k gevent async asyncio greenlet task_impl runtime_mode runtime_threads "
        "gevent_monkey_patch eventlet"
    ),
    _BACKLOG: "backlog enable_backlog_metric",
    "all workers accept from the one socket that systemd holds": "reuse_port so_reuse_port "
    "thunder_lock",
    "it needs no setting, because there is always some": "max_requests_jitter max_requests_delta "
    "limit_max_requests_jitter",
    "it needs no setting: Python's threads always work": "enable_threads py_call_osafterfork",
    "the name of the file is the name of the app": "name proc_name default_proc_name procname "
    "auto_procname procname_prefix process_name",
    "Python looks in `directory`; for more, set PYTHONPATH in `environment`": "pythonpath pp "
    "python_path",
    "the app's own temporary files are in a /tmp of its own; for another place, set TMPDIR in "
    "`environment`": "tmp_upload_dir worker_tmp_dir upload_dir",
    'write a call as the app: app = "module:create_app()"': "factory paste raw_paste_global_conf "
    "paster paste_logger ini_paste",
    "put `post_fork()` into the app's module": "post_fork post_worker_init",
    "use Python's atexit in the app": "worker_exit child_exit on_exit",
    _SYSTEMD: "initgroups on_starting when_ready on_reload pre_exec chroot namespace cap unshare "
    "cpu_affinity nice restart restartsec type execstart execstartpre protectsystem protecthome "
    "privatetmp nonewprivileges add_gid",
    "systemd runs the server and knows its processes": "daemon daemonize daemonize2 pidfile "
    "pid_file safe_pidfile pidfile2 vacuum master no_orphans die_on_term no_master_fifo "
    "control_socket control_socket_mode control_socket_disable master_fifo respawn_failed_workers "
    "respawn_interval emperor vassals zerg",
    _JOURNAL: "errorlog error_log capture_output enable_stdio_inheritance logger_class logconfig "
    "logconfig_dict logconfig_json syslog syslog_addr syslog_prefix syslog_facility "
    "disable_redirect_access_to_syslog logto logto2 logger req_logger log_date log_master "
    "log_config log_file logfile use_colors log log_socket_errors log_untrusted_proxy_headers "
    "ident log_x_forwarded_for standardoutput standarderror",
    "`access_log` is off unless you set it, and it is for all requests": "disable_logging log_4xx "
    "log_5xx no_access_log",
    _STATS: "statsd_host statsd_prefix dogstatsd_tags stats stats_server metrics metrics_enabled "
    "metrics_port carbon",
    _RELOAD: "reload reload_engine reload_extra_files touch_reload py_autoreload fs_reload "
    "touch_chain_reload reload_dir reload_delay reload_include reload_exclude auto_reload",
    "'spyglass check NAME' does this": "check_config print_config",
    _MIDDLEWARE: "pre_request post_request route",
    "a killed worker's tracebacks are always in the journal": "worker_int worker_abort "
    "harakiri_verbose spew",
    "there are no hooks around workers": "pre_fork nworkers_changed",
    _ALWAYS: "sendfile http_parser header_map single_interpreter need_app strict close_on_exec "
    "wsgi_disable_file_wrapper wsgi_env_behavior clear_untrusted_proxy_headers "
    "asyncore_use_poll asyncore_loop_timeout recv_bytes send_bytes outbuf_overflow "
    "outbuf_high_watermark cleanup_interval channel_request_lookahead",
    "REMOTE_ADDR is the last address that is not one of `trusted_proxies`": "trusted_proxy_count",
    "HTTP is the one protocol: proxy_pass in nginx, instead of uwsgi_pass or fastcgi_pass": (
        "protocol uwsgi_allow_ips uwsgi_socket fastcgi_socket scgi_socket suwsgi_socket"
    ),
    _STRICT: "permit_obsolete_folding strip_header_spaces permit_unconventional_http_method "
    "permit_unconventional_http_version casefold_http_method",
    "it was made for an app that leaks; `max_memory` and `max_requests` replace such workers": (
        "max_worker_lifetime min_worker_lifetime workers_lifetime"
    ),
    "`workers` run while the app is awake, and none while it sleeps": "cheaper cheaper_initial "
    "cheaper_step cheaper_algo cheaper_overload cheaper_rss_limit_soft",
    "give the files to the web server in front": "static_map static_map2 check_static "
    "static_path_mount static_path_route static_path_expires static_path_dir_to_file "
    "offload_threads",
    "WebSockets need no setting (docs: websockets.md)": "ws websockets",
    "a client has as long to answer a ping as `websocket_ping` says": "ws_ping_timeout",
    "16 messages, or 1M of them, wait for the app; then no more is read": "ws_max_queue",
    "the event loop of an ASGI app is asyncio's own, and the worker's": "loop asgi_loop event_loop",
    "an app's lifespan is always run, and one without is recognised": "lifespan asgi_lifespan",
    "`request_timeout` is also how long a call may go on when its client has gone": (
        "asgi_disconnect_grace_period"
    ),
    "each call of an ASGI app has a context of its own": "reset_contextvars",
    "a worker is checked by its heartbeat; `request_timeout` limits its calls": (
        "timeout_worker_healthcheck"
    ),
    "the response has the headers that the app sets, and Date": "date_header server_header header "
    "headers server_name",
    _PROXY: "keyfile certfile ssl_version cert_reqs ca_certs suppress_ragged_eofs "
    "do_handshake_on_connect ciphers ssl_context http_protocols http2_cleartext "
    "http2_max_concurrent_streams http2_initial_window_size http2_max_frame_size "
    "http2_max_header_list_size http2 https https_socket ssl_keyfile ssl_certfile ssl_keyfile_password "
    "ssl_cert_reqs ssl_ca_certs ssl_ciphers ssl_certificate ssl_ca ssl_crl ssl_client_verify "
    "ssl_protocol_min ssl tls certificate https2 http2_keep_alive_interval",
    _NOT_HERE: "dirty_apps dirty_workers dirty_timeout dirty_threads dirty_graceful_timeout "
    "on_dirty_starting dirty_post_fork dirty_worker_init dirty_worker_exit cron spooler mule mules "
    "attach_daemon smart_attach_daemon attach_daemon2 subscribe_to fastrouter legion cache2",
    "Spyglass has no plugins": "plugin plugins need_plugin",
}
OURS = {name: setting for setting, names in _OURS.items() for name in names.split()}
NONE = {name: why for why, names in _NONE.items() for name in names.split()}

# Short options of gunicorn; many of uWSGI's mean the same.
SHORT = {
    "-b": "--bind", "-w": "--workers", "-t": "--timeout", "-k": "--worker-class", "-D": "--daemon",
    "-c": "--config", "-u": "--user", "-g": "--group", "-e": "--env", "-H": "--home",
}  # fmt: skip


def plain(name: str) -> str:
    """Return `name` as this table has it: of "--http-socket", "HTTP_SOCKET"."""
    return name.lower().lstrip("-").replace("-", "_").removeprefix("spyglass_")
