"""A stand-in for an experiment tracker (:class:`textgen.reporting.tracking.tracker.Tracker`)."""


class Tracker:
    """Remembers its calls; what a row has of the record in ``rows``, and of the system in ``system``."""

    def __init__(self, events):
        self.events, self.started, self.rows, self.samples = events, None, [], []
        self.system = []
        self.at_finish = lambda run_dir: None

    def start(self, directory, config, echo):
        self.started = directory, config
        return self

    def log(self, row):
        self.events.append("tracker")
        self.rows.append({key: value for key, value in row.items() if not key.startswith("system/")})
        self.system.append({key: value for key, value in row.items() if key.startswith("system/")})

    def log_samples(self, rows):
        self.samples += rows

    def finish(self, run_dir):
        self.events.append("tracker finished")
        self.at_finish(run_dir)

    def forget(self):
        self.rows, self.samples = [], []
