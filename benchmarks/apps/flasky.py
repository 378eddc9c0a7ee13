"""As little as a Flask app can be: what it costs is Flask."""

from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello():
    return "Hello\n"
