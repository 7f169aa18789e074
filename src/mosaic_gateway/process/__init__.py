"""Other processes: who they are, as whom they run, how they are started, ended and listened to."""
