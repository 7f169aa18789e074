"""An installation on disk.

- `Home`: the path of everything in its directory; `check_layout`, `EngineName`.
- Its records: `Receipt` (what it owns), `Service` (its registration with a service manager), `MachineRecord` (what
  root created for it), `UpgradeMark` (the phase of an upgrade).
- `write_doctor_record`: the last findings of ``doctor``.
- `home_locked`: the lock of commands that change it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.installation.doctor_record import DoctorRecord, read_doctor_record, write_doctor_record
    from mosaic_gateway.installation.engine_name import EngineName
    from mosaic_gateway.installation.home_lock import forget_lock, home_locked, naming_lock_holder
    from mosaic_gateway.installation.layout import Home, check_layout, check_run_directory, open_to_owner
    from mosaic_gateway.installation.machine_record import (
        DIRECTORY,
        MachineRecord,
        key_of,
        machine_records,
        read_machine_record,
        records_locked,
        remove_machine_record,
        write_machine_record,
    )
    from mosaic_gateway.installation.receipt import (
        NotInstalledError,
        Receipt,
        ReceiptState,
        installed,
        instance_id,
        read_receipt,
        write_receipt,
    )
    from mosaic_gateway.installation.service_record import Manager, Service
    from mosaic_gateway.installation.upgrade_state import (
        CONTINUE,
        Phase,
        UpgradeMark,
        check_may_start,
        mark_file,
        read_mark,
        refuse_beside_upgrade,
        remove_mark,
        unfinished_error,
        write_mark,
    )
else:
    __getattr__ = lazy_names(
        __name__,
        doctor_record="DoctorRecord read_doctor_record write_doctor_record",
        engine_name="EngineName",
        home_lock="forget_lock home_locked naming_lock_holder",
        layout="Home check_layout check_run_directory open_to_owner",
        machine_record=(
            "DIRECTORY MachineRecord key_of machine_records read_machine_record records_locked "
            "remove_machine_record write_machine_record"
        ),
        receipt="NotInstalledError Receipt ReceiptState installed instance_id read_receipt write_receipt",
        service_record="Manager Service",
        upgrade_state=(
            "CONTINUE Phase UpgradeMark check_may_start mark_file read_mark refuse_beside_upgrade remove_mark "
            "unfinished_error write_mark"
        ),
    )

__all__ = [
    "CONTINUE",
    "DIRECTORY",
    "DoctorRecord",
    "EngineName",
    "Home",
    "MachineRecord",
    "Manager",
    "NotInstalledError",
    "Phase",
    "Receipt",
    "ReceiptState",
    "Service",
    "UpgradeMark",
    "check_layout",
    "check_may_start",
    "check_run_directory",
    "forget_lock",
    "home_locked",
    "installed",
    "instance_id",
    "key_of",
    "machine_records",
    "mark_file",
    "naming_lock_holder",
    "open_to_owner",
    "read_doctor_record",
    "read_machine_record",
    "read_mark",
    "read_receipt",
    "records_locked",
    "refuse_beside_upgrade",
    "remove_machine_record",
    "remove_mark",
    "unfinished_error",
    "write_doctor_record",
    "write_machine_record",
    "write_mark",
    "write_receipt",
]
