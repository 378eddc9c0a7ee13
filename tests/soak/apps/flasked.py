import os

import deeds
from flask import Flask, request, send_file

VERSION = "0"  # each deploy has another
app = Flask(__name__)
HERE = os.path.dirname(os.path.abspath(__file__))


@app.route("/echo", methods=["GET", "POST"])
def echo():
    return deeds.echo(request.args["visit"], VERSION, request.args, request.stream), {
        "Content-Type": "text/plain"
    }


@app.route("/stream", methods=["GET", "POST"])
def stream():
    return deeds.pieces(request.args["visit"], VERSION, request.args, request.stream), {
        "Content-Type": "text/plain"
    }


@app.route("/file")
def file():
    deeds.seen(request.args["visit"])
    return send_file(os.path.join(HERE, "static"), mimetype="text/plain"), {
        "X-Visit": request.args["visit"]
    }


@app.route("/harm")
def harm():
    deeds.harm(request.args["visit"], request.args)
    return deeds.echo(request.args["visit"], VERSION, request.args, request.stream)
