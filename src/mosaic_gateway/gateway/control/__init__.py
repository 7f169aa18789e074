"""Starting, stopping and supervising a gateway from outside its process.

- `gateway_process`: start, stop and state of the gateway of a home. `supervisor`: the process that restarts it.
- The program that runs: `current_program`, `read_program`, `this_program`.
- The service manager: `registered_service`, `start_service`, `stop_service`; what the gateway reports to it:
  `ServiceNotice`, `ReadyPipe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.gateway.control import gateway_process, supervisor
    from mosaic_gateway.gateway.control.launch import GatewayStartError, supervisor_words
    from mosaic_gateway.gateway.control.program import (
        CURRENT,
        MANIFEST,
        OtherVersionError,
        Program,
        ProgramMissingError,
        archive_descriptors,
        check_interpreter,
        current_link,
        current_program,
        interpreter_missing,
        is_data_retained,
        read_program,
        refuse_other_version,
        this_program,
    )
    from mosaic_gateway.gateway.control.ready_pipe import ReadyPipe
    from mosaic_gateway.gateway.control.service import (
        home_line,
        is_for_home,
        recorded_service,
        registered_service,
        start_service,
        stop_commands,
        stop_service,
    )
    from mosaic_gateway.gateway.control.service_notice import LogFileHandler, ServiceNotice, watchdog_limit
else:
    __getattr__ = lazy_names(
        __name__,
        "gateway_process",
        "supervisor",
        launch="GatewayStartError supervisor_words",
        program=(
            "CURRENT MANIFEST OtherVersionError Program ProgramMissingError archive_descriptors "
            "check_interpreter current_link current_program interpreter_missing is_data_retained read_program "
            "refuse_other_version this_program"
        ),
        ready_pipe="ReadyPipe",
        service="home_line is_for_home recorded_service registered_service start_service stop_commands stop_service",
        service_notice="LogFileHandler ServiceNotice watchdog_limit",
    )

__all__ = [
    "CURRENT",
    "MANIFEST",
    "GatewayStartError",
    "LogFileHandler",
    "OtherVersionError",
    "Program",
    "ProgramMissingError",
    "ReadyPipe",
    "ServiceNotice",
    "archive_descriptors",
    "check_interpreter",
    "current_link",
    "current_program",
    "gateway_process",
    "home_line",
    "interpreter_missing",
    "is_data_retained",
    "is_for_home",
    "read_program",
    "recorded_service",
    "refuse_other_version",
    "registered_service",
    "start_service",
    "stop_commands",
    "stop_service",
    "supervisor",
    "supervisor_words",
    "this_program",
    "watchdog_limit",
]
